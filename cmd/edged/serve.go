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
	return runRuntime(ctx, func() (edge.Config, error) { return loadConfig(*file) }, log)
}

// runRuntime opens and runs edged until ctx ends. On SIGHUP it loads the configuration again and, if that has no fault,
// goes on with it in the same process; with faults it says so and the running configuration stays. So it does when the new
// one turns out not to start, for example because of a port that is taken.
func runRuntime(ctx context.Context, load func() (edge.Config, error), log *slog.Logger) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	cfg, err := load()
	if err != nil {
		return err
	}
	opts := edge.Options{Log: log, Version: version}
	rt, err := edge.Open(ctx, cfg, opts)
	if err != nil {
		return err
	}
	for {
		next, err := runUntilReload(ctx, rt, func(ctx context.Context) (edge.Config, bool) { return awaitReload(ctx, hup, load, log) })
		if next == nil {
			return err
		}
		if err != nil {
			log.Error("old configuration not ended cleanly", "error", err)
		}
		if rt, err = edge.Open(ctx, *next, opts); err == nil {
			cfg = *next
			continue
		}
		log.Error("reload refused, the configuration before goes on", "error", err)
		if rt, err = edge.Open(ctx, cfg, opts); err != nil {
			return err
		}
	}
}

// runUntilReload runs and closes rt. It returns the configuration to go on with, or nil when edged is to stop.
func runUntilReload(ctx context.Context, rt *edge.Runtime, await func(context.Context) (edge.Config, bool)) (*edge.Config, error) {
	turn, end := context.WithCancelCause(ctx)
	waiting := make(chan struct{})
	var next *edge.Config
	go func() {
		defer close(waiting)
		if cfg, ok := await(turn); ok {
			next = &cfg
			end(edge.ErrReload)
		}
	}()
	err := errors.Join(rt.Run(turn), rt.Close())
	reload := errors.Is(context.Cause(turn), edge.ErrReload)
	end(nil)
	<-waiting
	if !reload || ctx.Err() != nil {
		return nil, err
	}
	return next, err
}

// awaitReload returns the configuration without faults that a SIGHUP has brought, or false when ctx ends.
func awaitReload(ctx context.Context, hup <-chan os.Signal, load func() (edge.Config, error), log *slog.Logger) (edge.Config, bool) {
	for {
		select {
		case <-ctx.Done():
			return edge.Config{}, false
		case <-hup:
		}
		cfg, err := load()
		if err == nil {
			_, err = edge.Check(cfg)
		}
		if err == nil {
			log.Info("reload: the configuration is read again")
			return cfg, true
		}
		log.Error("reload refused, the running configuration stays", "error", err)
	}
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
