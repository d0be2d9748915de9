import unittest

from wordcount import count


class Count(unittest.TestCase):
    def test_the_most_frequent_comes_first(self):
        self.assertEqual(count("One two, two three."), [("two", 2), ("one", 1), ("three", 1)])

    def test_nothing_has_no_words(self):
        self.assertEqual(count(" ... "), [])


if __name__ == "__main__":
    unittest.main()
