//go:build ignore

// Command testsummary reads `go test -json` and prints what a person needs: one line per package, and everything that a
// failed test said. It adds the counts of tests to the file that it is given and exits 1 if anything failed.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strings"
	"time"
)

// event is one line of test2json (go doc cmd/test2json).
type event struct {
	Action, Package, Test, Output, ImportPath string
	Elapsed                                   float64
}

// counts are of tests and subtests without subtests of their own.
type counts struct{ passed, failed, skipped int }

// summary collects what was seen so far.
type summary struct {
	output  map[string]*bytes.Buffer // of a test, or of a package
	parents map[string]bool          // tests that have subtests
	results map[string]string        // test -> action
	broken  bool                     // a package failed, or did not build
	build   bytes.Buffer
}

func main() {
	s := summary{output: map[string]*bytes.Buffer{}, parents: map[string]bool{}, results: map[string]string{}}
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadBytes('\n')
		var e event
		if len(line) > 0 && line[0] == '{' && json.Unmarshal(line, &e) == nil {
			s.add(e)
		} else {
			os.Stdout.Write(line)
		}
		if err != nil {
			break
		}
	}
	c := s.count()
	if len(os.Args) > 1 {
		if err := addTo(os.Args[1], c); err != nil {
			fmt.Fprintln(os.Stderr, "testsummary:", err)
			os.Exit(1)
		}
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", c.passed, c.failed, c.skipped)
	if s.broken || c.failed > 0 {
		os.Exit(1)
	}
}

func (s *summary) add(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		s.build.WriteString(e.Output)
	case "build-fail":
		s.broken = true
		s.build.WriteTo(os.Stdout)
	case "output":
		if s.output[key] == nil {
			s.output[key] = &bytes.Buffer{}
		}
		s.output[key].WriteString(e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			s.packageDone(e)
			return
		}
		if i := strings.LastIndexByte(e.Test, '/'); i >= 0 {
			s.parents[e.Package+" "+e.Test[:i]] = true
		}
		s.results[key] = e.Action
		if e.Action == "skip" && s.output[key] != nil {
			fmt.Printf("skip  %s %s: %s\n", e.Package, e.Test, reason(s.output[key].String()))
		}
		if e.Action != "fail" {
			delete(s.output, key)
		}
	}
}

// packageDone prints a package's line, and the output of its failed tests.
func (s *summary) packageDone(e event) {
	own := s.output[e.Package+" "]
	if e.Action == "fail" {
		s.broken = true
		var failed []string
		for key := range s.output {
			if strings.HasPrefix(key, e.Package+" ") {
				failed = append(failed, key)
			}
		}
		sort.Strings(failed)
		for _, key := range failed {
			s.output[key].WriteTo(os.Stdout)
		}
	}
	if e.Action != "skip" { // a package without tests is "skip"
		note := ""
		if own != nil && strings.Contains(own.String(), "(cached)") {
			note = " (cached)"
		}
		fmt.Printf("%-5s %s %v%s\n", e.Action, e.Package, time.Duration(e.Elapsed*float64(time.Second)).Round(time.Millisecond), note)
	}
	for key := range s.output {
		if strings.HasPrefix(key, e.Package+" ") {
			delete(s.output, key)
		}
	}
}

// reason is what a test said when it skipped.
func reason(output string) string {
	for line := range strings.Lines(output) {
		if text := strings.TrimSpace(line); text != "" && !strings.HasPrefix(text, "===") && !strings.HasPrefix(text, "---") {
			return text
		}
	}
	return "no reason given"
}

func (s *summary) count() (c counts) {
	for key, action := range s.results {
		switch {
		case s.parents[key] && action != "fail":
		case action == "pass":
			c.passed++
		case action == "skip":
			c.skipped++
		case !s.parents[key]:
			c.failed++
		default: // a parent fails with its subtests, or alone
			c.failed += s.ownFailure(key)
		}
	}
	return c
}

// ownFailure is 1 if a test failed and none of its subtests did.
func (s *summary) ownFailure(parent string) int {
	for key, action := range s.results {
		if action == "fail" && strings.HasPrefix(key, parent+"/") {
			return 0
		}
	}
	return 1
}

// addTo adds the counts to those in a file.
func addTo(file string, c counts) error {
	var before counts
	if data, err := os.ReadFile(file); err == nil {
		fmt.Sscan(string(data), &before.passed, &before.failed, &before.skipped)
	}
	return os.WriteFile(file, fmt.Appendf(nil, "%d %d %d\n", before.passed+c.passed, before.failed+c.failed, before.skipped+c.skipped), 0o644)
}
