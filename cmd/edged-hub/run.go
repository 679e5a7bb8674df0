package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/nats-io/nats.go"

	"github.com/edged-io/edged/edge/resource"
	"github.com/edged-io/edged/hub"
)

// usageError is a wrong call.
type usageError struct{ error }

func exitCode(err error) int {
	var usage usageError
	if errors.As(err, &usage) {
		return 2
	}
	return 1
}

const usage = `edged-hub is the embedded default upstream of edged devices (NATS JetStream).

  edged-hub [flags]                     run; without flags: on loopback, open to this machine
  edged-hub check [flags]               check the configuration and the credentials file
  edged-hub provision --url URL [flags] create the stream and the bucket on your own NATS cluster
  edged-hub version

Flags:
`

// run is the whole command; nil means exit 0.
func run(args []string) error {
	verb := "run"
	if len(args) > 0 && len(args[0]) > 0 && args[0][0] != '-' {
		verb, args = args[0], args[1:]
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	call, err := parse(verb, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return nil
	case err != nil:
		return err
	}
	switch verb {
	case "run", "serve":
		return serve(ctx, call.cfg)
	case "check":
		return check(call.cfg)
	case "provision":
		return provision(ctx, call)
	case "version":
		_, err := fmt.Println("edged-hub", version)
		return err
	}
	return usageError{fmt.Errorf("there is no command %q; edged-hub --help lists them", verb)}
}

// call is what a command line asks for.
type call struct {
	cfg      hub.Config
	url      string
	creds    string
	replicas int
}

// parse reads the configuration file, if any, then the flags: a flag that was given wins over the file.
func parse(verb string, args []string) (call, error) {
	c := call{cfg: hub.DefaultConfig()}
	fs := flag.NewFlagSet("edged-hub "+verb, flag.ContinueOnError)
	fs.SetOutput(os.Stdout)
	fs.Usage = func() {
		fmt.Fprint(fs.Output(), usage)
		fs.PrintDefaults()
	}
	file := fs.String("config", "", "configuration `file` (YAML)")
	flags := map[string]*string{
		"data": &c.cfg.Data, "listen": &c.cfg.Listen.NATS, "websocket": &c.cfg.Listen.WebSocket, "mqtt": &c.cfg.Listen.MQTT,
		"monitor": &c.cfg.Listen.Monitor, "devices": &c.cfg.Devices, "log-level": &c.cfg.Log.Level, "log-format": &c.cfg.Log.Format,
	}
	given := map[string]*string{
		"data":       fs.String("data", c.cfg.Data, "`folder` of streams"),
		"listen":     fs.String("listen", c.cfg.Listen.NATS, "NATS listener, `host:port`"),
		"websocket":  fs.String("websocket", c.cfg.Listen.WebSocket, "WebSocket listener, `host:port`; empty: off"),
		"mqtt":       fs.String("mqtt", c.cfg.Listen.MQTT, "MQTT listener, `host:port` such as 127.0.0.1:1883; empty: off"),
		"monitor":    fs.String("monitor", c.cfg.Listen.Monitor, "NATS monitoring pages, `host:port`; empty: off"),
		"devices":    fs.String("devices", c.cfg.Devices, "credentials `file`; without it the hub is open, on loopback only"),
		"log-level":  fs.String("log-level", c.cfg.Log.Level, "debug, info, warn or error"),
		"log-format": fs.String("log-format", c.cfg.Log.Format, "logfmt or json"),
	}
	if verb == "provision" {
		fs.StringVar(&c.url, "url", "", "NATS `URL` of the cluster")
		fs.StringVar(&c.creds, "creds", "", "NATS credentials `file`")
		fs.IntVar(&c.replicas, "replicas", 3, "copies of each message")
	}
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return c, err
		}
		return c, usageError{err}
	}
	if fs.NArg() > 0 {
		return c, usageError{fmt.Errorf("unexpected argument %q; edged-hub --help lists the commands", fs.Arg(0))}
	}
	if *file != "" {
		data, err := os.ReadFile(*file)
		if err != nil {
			return c, fmt.Errorf("read configuration: %w", err)
		}
		if faults := resource.DecodeStrict(*file, data, &c.cfg); len(faults) > 0 {
			return c, faults
		}
	}
	fs.Visit(func(f *flag.Flag) {
		if target := flags[f.Name]; target != nil {
			*target = *given[f.Name]
		}
	})
	var faults resource.Faults
	c.cfg.Validate(func(field, value, problem, hint string) {
		faults = append(faults, resource.Fault{File: *file, Field: field, Value: value, Problem: problem, Hint: hint})
	})
	return c, faults.Err()
}

func serve(ctx context.Context, cfg hub.Config) error {
	h, err := hub.Open(ctx, cfg, newLog(cfg.Log))
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // asked to stop while it was starting
	}
	if err != nil {
		return err
	}
	defer h.Close()
	notify(daemon.SdNotifyReady)
	defer notify(daemon.SdNotifyStopping)
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	for {
		select {
		case err := <-done:
			return err
		case <-hup:
			if err := h.Reload(); err != nil {
				newLog(cfg.Log).Error("reload", "error", err)
			}
		}
	}
}

// notify tells systemd, if it started us.
func notify(state string) { _, _ = daemon.SdNotify(false, state) } // without systemd there is nobody to tell

func newLog(c hub.LogConfig) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo
	}
	opts := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, opts))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opts))
}

func check(cfg hub.Config) error {
	if cfg.Devices != "" {
		if _, err := hub.ReadAccounts(cfg.Devices); err != nil {
			return err
		}
	}
	_, err := fmt.Println("the configuration is right")
	return err
}

func provision(ctx context.Context, c call) error {
	if c.url == "" {
		return usageError{errors.New("provision needs --url")}
	}
	opts := []nats.Option{nats.Name("edged-hub provision")}
	if c.creds != "" {
		opts = append(opts, nats.UserCredentials(c.creds))
	}
	nc, err := nats.Connect(c.url, opts...)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", c.url, err)
	}
	defer nc.Close()
	if err := hub.Provision(ctx, nc, c.cfg, c.replicas); err != nil {
		return err
	}
	_, err = fmt.Printf("stream %s and bucket %s are ready on %s\n", c.cfg.Events.Stream, c.cfg.State.Bucket, nc.ConnectedUrlRedacted())
	return err
}
