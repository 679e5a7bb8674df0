package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/edged-io/edged/edge"
)

type runFlags struct {
	config                             *string
	id, address, port, protocol        string
	httpPort, grpcPort, maxConcurrency int
	health                             bool
	command                            []string
}

func parseRun(args []string) (runFlags, error) {
	var f runFlags
	fs := flag.NewFlagSet("edged run", flag.ContinueOnError)
	f.config = configFlag(fs)
	fs.StringVar(&f.id, "app-id", "", "id of the application")
	fs.StringVar(&f.port, "app-port", "", "port on which the application listens; none: it only calls")
	fs.StringVar(&f.address, "app-channel-address", "127.0.0.1", "address on which it listens, or unix:///path")
	fs.StringVar(&f.protocol, "app-protocol", "http", "http, https, grpc, grpcs or h2c")
	fs.BoolVar(&f.health, "enable-app-health-check", false, "probe the application's health")
	fs.IntVar(&f.maxConcurrency, "app-max-concurrency", -1, "most calls to the application at once; -1: no limit")
	fs.IntVar(&f.httpPort, "dapr-http-port", 0, "loopback port of the HTTP API; 0: any free one")
	fs.IntVar(&f.grpcPort, "dapr-grpc-port", 0, "loopback port of the gRPC API; 0: any free one")
	fs.SetOutput(os.Stderr)
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return f, err
		}
		return f, usageError{err}
	}
	f.command = fs.Args()
	if f.id == "" || len(f.command) == 0 {
		return f, usageError{errors.New("edged run needs --app-id and, behind --, the command: edged run --app-id orders --app-port 6001 -- python3 app.py")}
	}
	return f, nil
}

// runApp attaches an application to the running daemon, or to a private one when there is none, runs its command and
// detaches it when the command ends. The exit code is the command's. When the daemon starts again meanwhile, the application
// is attached again at the same addresses.
func runApp(ctx context.Context, args []string) error {
	f, err := parseRun(args)
	if err != nil {
		return err
	}
	cfg, err := loadConfig(*f.config)
	if err != nil {
		return err
	}
	log, err := newLogger(cfg.Log)
	if err != nil {
		return err
	}
	stop, err := ensureDaemon(ctx, cfg, log)
	if err != nil {
		return err
	}
	attached, detach := context.WithCancel(context.WithoutCancel(ctx))
	defer detach()
	lease, err := edge.AttachTo(attached, cfg, f.attachment())
	if err != nil {
		return errors.Join(fmt.Errorf("attach application %s: %w", f.id, err), stop())
	}
	log.Info("application attached", "app", f.id, "socket", lease.Socket, "http", lease.HTTP, "grpc", lease.GRPC)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		keepAttached(attached, cfg, f, lease, log)
	}()
	err = runCommand(ctx, f, lease.Attached)
	detach()
	<-kept
	return errors.Join(err, stop())
}

// keepAttached holds the lease until ctx ends. When the daemon ends it, by a reload or because it stops, the application is
// attached again as soon as a daemon answers.
func keepAttached(ctx context.Context, cfg edge.Config, f runFlags, lease *edge.Lease, log *slog.Logger) {
	again := f.attachment()
	again.HTTP, again.GRPC = lease.HTTP, lease.GRPC // the application was told these
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-lease.Ended():
			log.Warn("the daemon has stopped serving the application; it is attached again when the daemon is back", "app", f.id)
		}
		_ = lease.Close() // it has ended, or ends with ctx
		for wait := 50 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 2*time.Second) {
			next, err := edge.AttachTo(ctx, cfg, again)
			if err == nil {
				lease = next
				log.Info("application attached again", "app", f.id)
				break
			}
			log.Debug("application not attached", "app", f.id, "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
		}
	}
	_ = lease.Close()
}

func (f runFlags) attachment() edge.Attachment {
	a := edge.Attachment{
		ID: f.id, Protocol: f.protocol, HealthCheck: f.health, MaxConcurrent: f.maxConcurrency,
		HTTP: fmt.Sprintf("127.0.0.1:%d", f.httpPort), GRPC: fmt.Sprintf("127.0.0.1:%d", f.grpcPort),
	}
	switch {
	case f.port != "":
		a.Address = net.JoinHostPort(f.address, f.port)
	case strings.HasPrefix(f.address, "unix://"):
		a.Address = f.address
	}
	return a
}

// ensureDaemon does nothing if a daemon answers on the admin socket, and else starts one inside this process.
func ensureDaemon(ctx context.Context, cfg edge.Config, log *slog.Logger) (stop func() error, err error) {
	socket := edge.AdminSocket(cfg)
	conn, err := net.DialTimeout("unix", socket, time.Second)
	if err == nil {
		return func() error { return nil }, conn.Close()
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("reach the daemon on %s: %w: only its own user and root may attach applications", socket, err)
	}
	cfg.Apps = nil
	rt, err := edge.Open(ctx, cfg, edge.Options{Log: log, Version: version})
	if err != nil {
		return nil, err
	}
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- rt.Run(inner) }()
	return func() error {
		cancel()
		return errors.Join(<-done, rt.Close())
	}, nil
}

// runCommand runs the application with the environment that Dapr's SDKs read, and passes signals on to it.
func runCommand(ctx context.Context, f runFlags, at edge.Attached) error {
	cmd := exec.CommandContext(ctx, f.command[0], f.command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(),
		"APP_ID="+f.id, "EDGED_SOCKET="+at.Socket,
		"DAPR_HTTP_ENDPOINT=http://"+at.HTTP, "DAPR_GRPC_ENDPOINT="+at.GRPC,
		"DAPR_HTTP_PORT="+portOf(at.HTTP), "DAPR_GRPC_PORT="+portOf(at.GRPC))
	if f.port != "" {
		cmd.Env = append(cmd.Env, "APP_PORT="+f.port)
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return nil // asked to stop, and the application has ended
	case errors.As(err, &exit):
		return childExit{shellCode(exit)}
	case err != nil:
		return fmt.Errorf("run the application: %w", err)
	}
	return nil
}

// shellCode is the exit code as a shell gives it: 128 and the signal's number for a command that a signal ended.
func shellCode(exit *exec.ExitError) int {
	if w, ok := exit.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal())
	}
	return exit.ExitCode()
}

func portOf(addr string) string {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	return port
}
