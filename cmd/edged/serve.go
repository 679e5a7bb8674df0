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
// goes on with it in the same process; with faults it says so and the running configuration stays.
func runRuntime(ctx context.Context, load func() (edge.Config, error), log *slog.Logger) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	cfg, err := load()
	if err != nil {
		return err
	}
	for {
		rt, err := edge.Open(ctx, cfg, edge.Options{Log: log, Version: version})
		if err != nil {
			return err
		}
		turn, end := context.WithCancel(ctx)
		next := make(chan edge.Config, 1)
		go func() {
			defer end()
			awaitReload(turn, hup, load, next, log)
		}()
		err = errors.Join(rt.Run(turn), rt.Close())
		end()
		select {
		case cfg = <-next:
			if err != nil {
				log.Error("old configuration not ended cleanly", "error", err)
			}
		default:
			return err
		}
	}
}

// awaitReload returns when a SIGHUP has brought a configuration without faults, which it sends, or when ctx ends.
func awaitReload(ctx context.Context, hup <-chan os.Signal, load func() (edge.Config, error), next chan<- edge.Config, log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
		}
		cfg, err := load()
		if err == nil {
			_, err = edge.Check(cfg)
		}
		if err == nil {
			log.Info("reload: the configuration is read again")
			next <- cfg
			return
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
