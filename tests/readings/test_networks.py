"""What is said of odd networks."""

from .checks import of_group

test_sentences_are_true, test_texts_are_as_kept, test_known_faults_are_still_there = of_group("networks")
