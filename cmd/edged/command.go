package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// A command is one verb of the CLI. It returns nil (exit 0), a usage error (exit 2) or another error (exit 1).
type command struct {
	name, summary string
	run           func(ctx context.Context, args []string) error
}

func commands() []command {
	return []command{
		{"serve", "run the daemon: edged serve [--config FILE]", serve},
		{"run", "run an application with edged: edged run --app-id ID [--app-port PORT] -- COMMAND", runApp},
		{"daprd", "serve one application with daprd's flags: edged daprd --app-id ID ...", daprd},
		{"check", "check configuration without starting: edged check [--config FILE]", check},
		{"status", "show what the running daemon does: edged status [--json]", status},
		{"version", "print the version", printVersion},
	}
}

// usageError is a wrong call; its text ends with how to do it right.
type usageError struct{ error }

// childExit carries the exit code of the application that `edged run` ran.
type childExit struct{ code int }

func (e childExit) Error() string {
	return fmt.Sprintf("the application ended with exit code %d", e.code)
}

func exitCode(err error) int {
	var usage usageError
	var child childExit
	switch {
	case errors.As(err, &usage):
		return 2
	case errors.As(err, &child):
		return child.code
	}
	return 1
}

func run(args []string) error {
	ctx, stop := untilSignal()
	defer stop()
	if filepath.Base(args[0]) == "daprd" {
		return helped(daprd(ctx, args[1:]))
	}
	if len(args) < 2 || args[1] == "help" || args[1] == "--help" || args[1] == "-h" {
		fmt.Fprint(os.Stdout, usage())
		return nil
	}
	for _, c := range commands() {
		if c.name != args[1] {
			continue
		}
		return helped(c.run(ctx, args[2:]))
	}
	return usageError{fmt.Errorf("there is no command %q\n\n%s", args[1], usage())}
}

// helped takes a call for help, which has been given, for success.
func helped(err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	return err
}

// untilSignal returns a context that ends with the first SIGINT or SIGTERM. The second one ends the process at once, with
// exit code 1, whatever is under way.
func untilSignal() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() { // as long as the process
		<-signals
		cancel()
		<-signals
		os.Exit(1)
	}()
	return ctx, cancel
}

func usage() string {
	var b strings.Builder
	b.WriteString("edged gives the applications on this device Dapr's building blocks.\n\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "  %-8s %s\n", c.name, c.summary)
	}
	return b.String()
}

// parse reads flags, refusing arguments that are left over.
func parse(fs *flag.FlagSet, args []string) error {
	fs.SetOutput(os.Stderr)
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil:
		return usageError{err}
	case fs.NArg() > 0:
		return usageError{fmt.Errorf("%s takes no argument %q", fs.Name(), fs.Arg(0))}
	}
	return nil
}

func printVersion(context.Context, []string) error {
	_, err := fmt.Println("edged", version)
	return err
}
