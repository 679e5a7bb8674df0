package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/edged-io/edged/edge"
	"github.com/edged-io/edged/edge/telemetry"
)

const defaultConfigFile = "/etc/edged/edged.yaml"

// configFlag is the --config flag of the commands that read edged.yaml.
func configFlag(fs *flag.FlagSet) *string {
	return fs.String("config", "", "edged.yaml (default "+defaultConfigFile+" if it exists, else embedded defaults)")
}

// loadConfig reads the named file; without a name the system's file if there is one, else the embedded defaults.
func loadConfig(file string) (edge.Config, error) {
	if file != "" {
		return edge.LoadConfig(file)
	}
	cfg, err := edge.LoadConfig(defaultConfigFile)
	if errors.Is(err, fs.ErrNotExist) {
		return edge.DefaultConfig(), nil
	}
	return cfg, err
}

func newLogger(cfg edge.LogConfig) (*slog.Logger, error) {
	level, err := telemetry.ParseLevel(cfg.Level)
	if err != nil {
		return nil, err
	}
	return telemetry.NewLogger(os.Stderr, telemetry.LogOptions{Level: level, JSON: cfg.Format == "json"}), nil
}

func serve(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("edged serve", flag.ContinueOnError)
	file := configFlag(fs)
	if err := parse(fs, args); err != nil {
		return err
	}
	cfg, err := loadConfig(*file)
	if err != nil {
		return err
	}
	log, err := newLogger(cfg.Log)
	if err != nil {
		return err
	}
	return runRuntime(ctx, cfg, log)
}

// runRuntime opens and runs edged until ctx ends. SIGHUP reloads the resources.
func runRuntime(ctx context.Context, cfg edge.Config, log *slog.Logger) error {
	rt, err := edge.Open(ctx, cfg, edge.Options{Log: log, Version: version})
	if err != nil {
		return err
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case <-hup:
				rt.Reload()
			case <-done:
				return
			}
		}
	}()
	return errors.Join(rt.Run(ctx), rt.Close())
}

func check(_ context.Context, args []string) error {
	fs := flag.NewFlagSet("edged check", flag.ContinueOnError)
	file := configFlag(fs)
	if err := parse(fs, args); err != nil {
		return err
	}
	cfg, err := loadConfig(*file)
	if err != nil {
		return err
	}
	n, err := edge.Check(cfg)
	if err != nil {
		return err
	}
	_, err = fmt.Printf("configuration is valid: device %s, %d applications, %d resources\n", cfg.Device, len(cfg.Apps), n)
	return err
}
