package mqtt_test

import (
	"bytes"
	"context"
	"crypto/pbkdf2"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// mosquitto is one broker process of a test, with a configuration and a data folder of its own.
type mosquitto struct {
	t    testing.TB
	path string
	dir  string
	port int
	log  *lockedBuffer

	cmd  *exec.Cmd
	gone chan struct{}
}

// startMosquitto starts a broker on a free loopback port. The configuration's lines are added to a listener that
// keeps sessions on disk.
func startMosquitto(t testing.TB, lines ...string) *mosquitto {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/mosquitto"); err != nil {
			t.Fatal("mosquitto is not installed: apt-get install the Debian package `mosquitto`")
		}
	}
	m := &mosquitto{t: t, path: path, dir: t.TempDir(), port: freePort(t), log: &lockedBuffer{}}
	if !containsPrefix(lines, "allow_anonymous") {
		lines = append(lines, "allow_anonymous true")
	}
	if !containsPrefix(lines, "max_inflight_messages") {
		lines = append(lines, "max_inflight_messages 0")
	}
	conf := []string{
		"listener " + strconv.Itoa(m.port) + " 127.0.0.1",
		"persistence true", "persistence_location " + m.dir + "/",
		"max_queued_messages 0", "log_dest stderr", "log_type error", "log_type warning", "log_type notice", "log_type information", "set_tcp_nodelay true",
	}
	if os.Geteuid() == 0 {
		conf = append(conf, "user root") // the data folder belongs to the test
	}
	conf = append(conf, lines...)
	if err := os.WriteFile(m.conf(), []byte(strings.Join(conf, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.start()
	t.Cleanup(func() {
		m.stop(syscall.SIGTERM)
		if t.Failed() {
			t.Logf("mosquitto:\n%s", tail(m.log.String(), 60))
		}
	})
	return m
}

func containsPrefix(lines []string, prefix string) bool {
	for _, l := range lines {
		if strings.HasPrefix(l, prefix) {
			return true
		}
	}
	return false
}

func (m *mosquitto) conf() string { return filepath.Join(m.dir, "mosquitto.conf") }
func (m *mosquitto) addr() string { return "127.0.0.1:" + strconv.Itoa(m.port) }
func (m *mosquitto) url() string  { return "mqtt://" + m.addr() }

func (m *mosquitto) start() {
	m.t.Helper()
	cmd := exec.Command(m.path, "-c", m.conf())
	cmd.Stderr, cmd.Stdout = m.log, m.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a test that panics leaves no broker behind
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.cmd, m.gone = cmd, make(chan struct{})
	gone := m.gone
	go func() {
		_ = cmd.Wait() // a signal ended it
		close(gone)
	}()
	eventually(m.t, 10*time.Second, "mosquitto to listen", func() bool {
		select {
		case <-gone:
			m.t.Fatalf("mosquitto ended:\n%s", tail(m.log.String(), 20))
		default:
		}
		conn, err := net.DialTimeout("tcp", m.addr(), time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

// stop ends the process and waits for it.
func (m *mosquitto) stop(sig syscall.Signal) {
	m.t.Helper()
	select {
	case <-m.gone:
		return
	default:
	}
	if err := m.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		m.t.Errorf("stop mosquitto: %v", err)
	}
	select {
	case <-m.gone:
	case <-time.After(10 * time.Second):
		_ = m.cmd.Process.Kill()
		m.t.Error("mosquitto did not stop in time")
	}
}

// save has the broker write its sessions and queues to disk.
func (m *mosquitto) save() {
	m.t.Helper()
	file := filepath.Join(m.dir, "mosquitto.db")
	before, _ := os.Stat(file)
	if err := m.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		m.t.Fatal(err)
	}
	eventually(m.t, 5*time.Second, "mosquitto to save", func() bool {
		now, err := os.Stat(file)
		return err == nil && (before == nil || !os.SameFile(before, now))
	})
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// eventually polls until ok, or fails the test at the deadline.
func eventually(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("timed out after %v waiting for %s", limit, what)
		case <-tick.C:
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func tail(s string, lines int) string {
	all := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// ledger checks numbered messages: nothing may be lost, and first arrivals are in order.
type ledger struct {
	mu         sync.Mutex
	seen       map[int]int
	highest    int
	duplicates int
	reordered  int
	unexpected []string
}

func newLedger() *ledger { return &ledger{seen: map[int]int{}, highest: -1} }

func (l *ledger) add(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := strconv.Atoi(text)
	if err != nil {
		l.unexpected = append(l.unexpected, text)
		return
	}
	if l.seen[n]++; l.seen[n] > 1 {
		l.duplicates++
		return
	}
	if n < l.highest {
		l.reordered++
	}
	l.highest = max(l.highest, n)
}

func (l *ledger) distinct() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.seen)
}

// check fails the test unless exactly the numbers below n arrived, in order, with at most so many duplicates.
func (l *ledger) check(t testing.TB, n, maxDuplicates int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var lost []int
	for i := range n {
		if l.seen[i] == 0 {
			lost = append(lost, i)
		}
	}
	t.Logf("expected %d, arrived %d, lost %d, duplicates %d, reordered %d", n, len(l.seen), len(lost), l.duplicates, l.reordered)
	if len(lost) > 0 || l.reordered > 0 || l.duplicates > maxDuplicates || len(l.seen) != n || len(l.unexpected) > 0 {
		t.Errorf("lost %v, reordered %d, duplicates %d of at most %d, unexpected %q", head(lost), l.reordered, l.duplicates, maxDuplicates, head(l.unexpected))
	}
}

func head[T any](s []T) []T { return s[:min(len(s), 10)] }

func number(i int) []byte { return fmt.Appendf(nil, "%d", i) }

// passwordFile makes a mosquitto password file (PBKDF2 with SHA-512, its format 7).
func passwordFile(t testing.TB, user, password string) string {
	t.Helper()
	salt := []byte("saltsaltsalt")
	hash, err := pbkdf2.Key(sha512.New, password, salt, 101, 64)
	if err != nil {
		t.Fatal(err)
	}
	enc := base64.StdEncoding.EncodeToString
	return writeFile(t, "passwords", fmt.Sprintf("%s:$7$101$%s$%s\n", user, enc(salt), enc(hash)))
}
