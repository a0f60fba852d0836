package main

// What the work, ledger and check of `echo` are stands in benches/src/models/echo.rs. It is served and has no slices.

import (
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"syscall"
)

// What a read takes at most, as in every contender.
const buffer = 640

// server counts connections, and bytes before they go back: who has the answer may ask for the count.
type server struct {
	address         string
	request         uint64
	accepted, bytes atomic.Uint64
}

func (s *server) served() string {
	return fmt.Sprintf("accepted=%d answered=%d", s.accepted.Load(), s.bytes.Load()/s.request)
}

// listen readies a server of as many connections as the cell has, or says why it cannot be had.
func listen(cell map[string]string) (*server, error) {
	place(cell)
	s := &server{request: 64}
	var err error
	if _, given := cell["bytes"]; given {
		if s.request, err = number(cell, "bytes"); err != nil {
			return nil, err
		}
	}
	connections := uint64(0)
	keys := []string{"connections"}
	if _, given := cell["idle"]; given {
		keys = []string{"idle", "active"}
	}
	for _, key := range keys {
		some, err := number(cell, key)
		if err != nil {
			return nil, err
		}
		connections += some
	}
	const spare = 64
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err == nil && connections+spare > limit.Max {
		return nil, fmt.Errorf("%d connections are more than RLIMIT_NOFILE (`ulimit -Hn`) leaves room for: %d", connections, limit.Max)
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.address = listener.Addr().String()
	go func() {
		fmt.Fprintln(os.Stderr, "the server:", s.accept(listener))
		os.Exit(1)
	}()
	return s, nil
}

func (s *server) accept(listener net.Listener) error {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		s.accepted.Add(1)
		go s.answer(connection)
	}
}

// answer ends with its connection. One that was reset is as good as one that has ended.
func (s *server) answer(connection net.Conn) {
	defer connection.Close()
	var bytes [buffer]byte
	for {
		length, err := connection.Read(bytes[:])
		if err != nil {
			return
		}
		s.bytes.Add(uint64(length))
		if _, err := connection.Write(bytes[:length]); err != nil {
			return
		}
	}
}
