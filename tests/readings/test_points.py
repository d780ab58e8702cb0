"""What is said of odd points."""

from .checks import tests

test_sentences_are_true, test_texts_are_as_kept, test_known_faults_are_still_there = tests("points")
