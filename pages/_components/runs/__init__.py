"""The runs on Home: their cards, the two forms that make one, uploads, and the cards of the guided demos."""
