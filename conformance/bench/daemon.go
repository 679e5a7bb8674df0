package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// daemon is the edged under measurement, with a client application and a subscriber.
type daemon struct {
	dir string
	cmd *exec.Cmd
	sub *subscriber
}

func startEdged(binary, dir string) (*daemon, error) {
	d := &daemon{dir: dir}
	var err error
	if d.sub, err = newSubscriber(filepath.Join(dir, "app.sock")); err != nil {
		return nil, err
	}
	conf := fmt.Sprintf(`device: bench
data: %[1]s/data
run: %[1]s/run
deviceHealth: {interval: 0s}
log: {level: warn}
apps:
  - id: client
  - id: subscriber
    channel: {address: "unix://%[1]s/app.sock", protocol: http}
topics:
  - {match: "#", maxBytes: 4GiB, maxAge: 24h, whenFull: reject}
`, dir)
	file := filepath.Join(dir, "edged.yaml")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	d.cmd = exec.Command(binary, "serve", "--config", file)
	d.cmd.Stdout, d.cmd.Stderr = os.Stderr, os.Stderr
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	return d, waitSocket(d.socket("client"))
}

func (d *daemon) socket(app string) string { return filepath.Join(d.dir, "run", app+".sock") }

func (d *daemon) stop() error {
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return errors.Join(d.cmd.Wait(), d.sub.listener.Close())
}

func (d *daemon) usage() usage {
	u := processUsage(d.cmd.Process.Pid)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", d.socket("admin"))
	}}}
	resp, err := client.Get("http://edged/metrics")
	if err != nil {
		return u
	}
	defer resp.Body.Close()
	for sc := bufio.NewScanner(resp.Body); sc.Scan(); {
		if rest, ok := strings.CutPrefix(sc.Text(), "edged_disk_syncs_total"); ok {
			n, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
			u.syncs, u.synced = u.syncs+n, err == nil
		}
	}
	return u
}

// processUsage reads CPU time and bytes written of a process (proc(5): stat, io).
func processUsage(pid int) usage {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}
	}
	// The command's name, in parentheses, may hold spaces; user and system time are fields 14 and 15.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const userHz = 100
	ticks := 0
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			return usage{}
		}
		ticks += n
	}
	u := usage{cpu: time.Duration(ticks) * time.Second / userHz, valid: true}
	io, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return u
	}
	for line := range strings.Lines(string(io)) {
		if v, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			u.bytes, _ = strconv.ParseInt(strings.TrimSpace(v), 10, 64) // the kernel's number
		}
	}
	return u
}

// subscriber is an application that acknowledges every event and counts them: an HTTP/1.1 server that does no more.
type subscriber struct {
	listener net.Listener
	count    atomic.Int64
}

func newSubscriber(socket string) (*subscriber, error) {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	s := &subscriber{listener: l}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(c)
		}
	}()
	return s, nil
}

func (s *subscriber) serve(c net.Conn) {
	defer c.Close()
	var list []string
	for i := range topics {
		list = append(list, fmt.Sprintf(`{"pubsubname":"pubsub","topic":"%s","route":"/event"}`, topic(i)))
	}
	body := "[" + strings.Join(list, ",") + "]"
	subscriptions := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	ok := []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	missing := []byte("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
	for r := bufio.NewReader(c); ; {
		path, err := readRequest(r)
		if err != nil {
			return
		}
		answer := ok
		switch path {
		case "/event":
			s.count.Add(1)
		case "/dapr/subscribe":
			answer = subscriptions
		default:
			answer = missing
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

func readRequest(r *bufio.Reader) (path string, err error) {
	length := 0
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return "", err
		}
		switch {
		case path == "":
			_, rest, _ := bytes.Cut(line, []byte(" "))
			p, _, _ := bytes.Cut(rest, []byte(" "))
			path = string(p)
		case len(line) <= 2:
			_, err := io.CopyN(io.Discard, r, int64(length))
			return path, err
		case len(line) > 15 && bytes.EqualFold(line[:15], []byte("content-length:")):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[15:]))); err != nil {
				return "", err
			}
		}
	}
}

// delivery measures publish to delivery: 32 publishers, and the clock stops when the last event has arrived.
func (b *bench) delivery(ctx context.Context, protocol string) error {
	const c = 32
	// What earlier measurements published is delivered first.
	for last := int64(-1); last != b.edged.sub.count.Load(); time.Sleep(time.Second) {
		last = b.edged.sub.count.Load()
	}
	before, usedBefore := b.edged.sub.count.Load(), b.edged.usage()
	begin := time.Now()
	r, err := b.load(ctx, protocol, c, opPublish)
	if err != nil {
		return err
	}
	published := int64(r.ops)
	for end := time.Now().Add(60 * time.Second); b.edged.sub.count.Load() < before+published; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("%d published, %d delivered", published, b.edged.sub.count.Load()-before)
		}
	}
	r.elapsed, r.before, r.after = time.Since(begin), usedBefore, b.edged.usage()
	r.print(protocol+" publish to delivery", c, fmt.Sprintf("%d events, all delivered", published))
	return nil
}
