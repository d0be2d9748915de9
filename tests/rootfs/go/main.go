// Goroutines that talk over channels, timers, a child process and a pipe: what the Go runtime needs of a kernel.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "go-workers:", err)
		os.Exit(1)
	}
}

// sumSquares spreads the numbers below n over workers and adds up what they send back.
func sumSquares(workers, n int) int {
	jobs, results := make(chan int), make(chan int, 16)
	var group sync.WaitGroup
	for i := 0; i < workers; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for job := range jobs {
				if job%100 == 0 {
					runtime.Gosched()
				}
				results <- job * job
			}
		}()
	}
	go func() {
		for i := 0; i < n; i++ {
			jobs <- i
		}
		close(jobs)
		group.Wait()
		close(results)
	}()
	sum := 0
	for result := range results {
		sum += result
	}
	return sum
}

// echoOverSocket sends a message through a unix socket served by another goroutine.
func echoOverSocket() string {
	directory, err := os.MkdirTemp("", "go-workers")
	check(err)
	defer os.RemoveAll(directory)
	listener, err := net.Listen("unix", filepath.Join(directory, "socket"))
	check(err)
	go func() {
		conn, err := listener.Accept()
		check(err)
		io.Copy(conn, conn)
		conn.Close()
	}()
	conn, err := net.Dial("unix", listener.Addr().String())
	check(err)
	_, err = conn.Write([]byte("over a socket"))
	check(err)
	check(conn.(*net.UnixConn).CloseWrite())
	answer, err := io.ReadAll(conn)
	check(err)
	return string(answer)
}

// locked has goroutines on threads of their own block in the kernel at once.
func locked(threads int) int {
	reader, writer, err := os.Pipe()
	check(err)
	var group sync.WaitGroup
	for i := 0; i < threads; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			runtime.LockOSThread()
			_, err := writer.Write([]byte{1})
			check(err)
		}()
	}
	group.Wait()
	check(writer.Close())
	all, err := io.ReadAll(reader)
	check(err)
	return len(all)
}

func main() {
	fmt.Println("sum", sumSquares(64, 10000))
	fmt.Println("socket", echoOverSocket())
	fmt.Println("locked", locked(20))

	out, err := exec.Command("/bin/sh", "-c", "echo child; exit 3").Output()
	fmt.Printf("child %q %v\n", out, err)

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	check(syscall.Kill(os.Getpid(), syscall.SIGUSR1))
	fmt.Println("signal", <-signals)

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	<-ctx.Done()
	fmt.Println("timer", ctx.Err())

	garbage := 0
	for i := 0; i < 200; i++ {
		block := make([]byte, 1<<16)
		block[i] = 1
		garbage += len(block)
	}
	runtime.GC()
	fmt.Println("allocated", garbage)

	func() {
		defer func() { fmt.Println("recovered", recover()) }()
		var nothing *int
		fmt.Println(*nothing)
	}()
}
