// System calls by Go's library, again and again: which of them come in by patched sites is counted.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const rounds = 1000

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "calls:", err)
		os.Exit(1)
	}
}

func changeNames(place string) {
	one, two, three := filepath.Join(place, "one"), filepath.Join(place, "two"), filepath.Join(place, "three")
	must(os.WriteFile(one, []byte("text"), 0o600))
	must(os.Chmod(one, 0o644))
	must(os.Rename(one, two))
	must(os.Symlink("two", three))
	_, err := os.Readlink(three)
	must(err)
	must(os.Remove(three))
	must(os.Remove(two))
}

func talkThroughAPipe() {
	reader, writer, err := os.Pipe()
	must(err)
	_, err = writer.Write([]byte("text"))
	must(err)
	text := make([]byte, 8)
	_, err = reader.Read(text)
	must(err)
	must(reader.Close())
	must(writer.Close())
}

func main() {
	place, err := os.MkdirTemp("", "calls")
	must(err)
	for round := 0; round < rounds; round++ {
		_, err = os.ReadFile("/etc/passwd")
		must(err)
		_, err = os.ReadDir("/etc")
		must(err)
		_, err = os.Stat("/usr/bin")
		must(err)
		changeNames(place)
		talkThroughAPipe()
		time.Sleep(time.Nanosecond)
	}
	must(os.Remove(place))
}
