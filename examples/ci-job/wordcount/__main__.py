import sys

from wordcount import count

for word, times in count(sys.stdin.read()):
    print(times, word)
