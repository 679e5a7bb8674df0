package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	runtimev1 "github.com/dapr/dapr/pkg/proto/runtime/v1"
	"go.etcd.io/bbolt"
	"google.golang.org/grpc"
)

// serveEcho is the reference server: it answers every request with a value, and does nothing else.
func serveEcho(spec string) error {
	protocol, socket, _ := strings.Cut(spec, ":")
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	value := make([]byte, valueSize)
	if protocol == "grpc" {
		s := grpc.NewServer()
		runtimev1.RegisterDaprServer(s, &echoServer{value: value})
		return s.Serve(l)
	}
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			_, _ = w.Write(value) // the client sees a broken answer
		}
	}))
}

type echoServer struct {
	runtimev1.UnimplementedDaprServer
	value []byte
}

func (s *echoServer) GetState(context.Context, *runtimev1.GetStateRequest) (*runtimev1.GetStateResponse, error) {
	return &runtimev1.GetStateResponse{Data: s.value}, nil
}

func measureEcho(dir, protocol string, c int, length time.Duration) (result, error) {
	socket := filepath.Join(dir, fmt.Sprintf("echo-%s-%d.sock", protocol, c))
	self, err := os.Executable()
	if err != nil {
		return result{}, err
	}
	cmd := exec.Command(self, "-echo", protocol+":"+socket)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return result{}, err
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	}()
	if err := waitSocket(socket); err != nil {
		return result{}, err
	}
	target := &target{socket: socket, protocol: protocol}
	before := processUsage(cmd.Process.Pid)
	r, err := hammer(c, length, func(i int) (func() error, func(), error) { return target.op(opGet, i) })
	r.before, r.after = before, processUsage(cmd.Process.Pid)
	return r, err
}

func waitSocket(path string) error {
	for end := time.Now().Add(10 * time.Second); ; {
		conn, err := net.Dial("unix", path)
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(end) {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// group lets writers share a sync: one leads and takes all that waits.
type group struct {
	mu      sync.Mutex
	waiting []chan error
	busy    bool
	commit  func(n int) error
}

func (g *group) write() error {
	done := make(chan error, 1)
	g.mu.Lock()
	g.waiting = append(g.waiting, done)
	if g.busy {
		g.mu.Unlock()
		return <-done
	}
	g.busy = true
	for len(g.waiting) > 0 {
		batch := g.waiting
		g.waiting = nil
		g.mu.Unlock()
		err := g.commit(len(batch))
		for _, d := range batch {
			d <- err
		}
		g.mu.Lock()
	}
	g.busy = false
	g.mu.Unlock()
	return <-done
}

// groupedCommits writes values to raw bbolt, each group of waiting writers in one transaction.
func groupedCommits(dir string, c int, length time.Duration) (result, error) {
	db, err := bbolt.Open(filepath.Join(dir, fmt.Sprintf("raw-%d.db", c)), 0o600, nil)
	if err != nil {
		return result{}, err
	}
	defer db.Close()
	value, serial := make([]byte, valueSize), uint64(0)
	g := &group{commit: func(n int) error {
		return db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			for range n {
				serial++
				key := binary.BigEndian.AppendUint64(nil, serial%keys)
				if err == nil {
					err = b.Put(key, value)
				}
			}
			return err
		})
	}}
	return hammer(c, length, func(int) (func() error, func(), error) { return g.write, func() {}, nil })
}

// groupedAppends writes values to a file, each group of waiting writers in one write and one fsync.
func groupedAppends(dir string, c int, length time.Duration) (result, error) {
	f, err := os.Create(filepath.Join(dir, fmt.Sprintf("raw-%d.log", c)))
	if err != nil {
		return result{}, err
	}
	defer f.Close()
	record := make([]byte, valueSize)
	w := bufio.NewWriterSize(f, 1<<16)
	g := &group{commit: func(n int) error {
		for range n {
			if _, err := w.Write(record); err != nil {
				return err
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
		return f.Sync()
	}}
	return hammer(c, length, func(int) (func() error, func(), error) { return g.write, func() {}, nil })
}
