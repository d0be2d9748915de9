"""Count the words of a text."""

from collections import Counter


def count(text):
    """Words in lower case, the most frequent first, equals in their order of appearance."""
    words = (word.strip(".,;:!?").lower() for word in text.split())
    return Counter(word for word in words if word).most_common()
