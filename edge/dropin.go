package edge

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/edged-io/edged/edge/resource"
)

// dropIn is what daprd's flags say beyond what edged.yaml has: edged then serves one application as daprd does.
type dropIn struct {
	httpAddresses, grpcAddresses []string
	publicAddress                string
	internalAddress              string
	metricsAddress               string
	profileAddress               string
	socketFolder                 string
	configFiles                  []string
	appPort                      int
	appAddress                   string
	allowedOrigins               string
	apiLogging                   bool
	gracefulShutdown             time.Duration
	blockShutdown                time.Duration
	disableInit                  []string
	maxHeader                    int
	namespace                    string
	onlyNamespace                string // resources of other namespaces are left out; empty: none are, as in daprd
	dataGiven                    bool   // by --data-dir: there is no other folder instead
}

// DaprdFlags are daprd's command line, parsed. Version is set when only the version was asked for.
type DaprdFlags struct {
	Version bool
	Config  Config
}

const (
	daprdHTTPPort    = 3500
	daprdGRPCPort    = 50001
	daprdMetricsPort = 9090
	daprdProfilePort = 7777
)

// ParseDaprd reads daprd's flags (Dapr 1.18) and its environment variables. Flags that concern a control plane are
// accepted and mean nothing here. An unknown flag is an error.
func ParseDaprd(args []string, env func(string) string, usage io.Writer) (DaprdFlags, error) {
	var f daprdFlagSet
	fs := f.define(usage)
	if err := fs.Parse(args); err != nil {
		return DaprdFlags{}, err
	}
	if f.version {
		return DaprdFlags{Version: true}, nil
	}
	cfg, err := f.config(env)
	return DaprdFlags{Config: cfg}, err
}

type daprdFlagSet struct {
	version                                                  bool
	appID, appPort, appProtocol, appAddress                  string
	httpPort, grpcPort, listen, publicPort, publicListen     string
	internalPort, internalListen, metricsPort, metricsListen string
	profilePort, maxBody, readBuffer, origins, logLevel      string
	socketFolder, componentsPath, dataDir, healthPath        string
	metrics, profiling, logJSON, apiLogging, health          bool
	maxConcurrency, interval, timeout, threshold, graceful   int
	block                                                    time.Duration
	resources, configs, disableInit                          []string
}

func (f *daprdFlagSet) define(usage io.Writer) *flag.FlagSet {
	fs := flag.NewFlagSet("daprd", flag.ContinueOnError)
	fs.SetOutput(usage)
	list := func(to *[]string, name, text string) {
		fs.Func(name, text, func(v string) error {
			*to = append(*to, strings.Split(v, ",")...)
			return nil
		})
	}
	fs.BoolVar(&f.version, "version", false, "print the runtime version")
	fs.StringVar(&f.appID, "app-id", "", "id of the application")
	fs.StringVar(&f.appPort, "app-port", "", "port on which the application listens")
	fs.StringVar(&f.appProtocol, "app-protocol", "http", "protocol of the application: http, https, grpc, grpcs, h2c")
	fs.StringVar(&f.appAddress, "app-channel-address", "127.0.0.1", "address on which the application listens")
	fs.IntVar(&f.maxConcurrency, "app-max-concurrency", -1, "most calls to the application at once; -1: no limit")
	fs.BoolVar(&f.health, "enable-app-health-check", false, "probe the application's health")
	fs.StringVar(&f.healthPath, "app-health-check-path", "/healthz", "HTTP path of the health probe")
	fs.IntVar(&f.interval, "app-health-probe-interval", 5, "seconds between health probes")
	fs.IntVar(&f.timeout, "app-health-probe-timeout", 500, "milliseconds a health probe may take")
	fs.IntVar(&f.threshold, "app-health-threshold", 3, "failed probes until the application counts as unhealthy")
	fs.StringVar(&f.httpPort, "dapr-http-port", strconv.Itoa(daprdHTTPPort), "port of the HTTP API")
	fs.StringVar(&f.grpcPort, "dapr-grpc-port", strconv.Itoa(daprdGRPCPort), "port of the gRPC API")
	fs.StringVar(&f.listen, "dapr-listen-addresses", "", "addresses of the APIs, comma separated")
	fs.StringVar(&f.publicPort, "dapr-public-port", "", "port for health and metadata only")
	fs.StringVar(&f.publicListen, "dapr-public-listen-address", "", "address for health and metadata")
	fs.StringVar(&f.internalPort, "dapr-internal-grpc-port", "", "port of the gRPC API between daemons")
	fs.StringVar(&f.internalListen, "dapr-internal-grpc-listen-address", "", "address of the gRPC API between daemons")
	fs.StringVar(&f.socketFolder, "unix-domain-socket", "", "serve the APIs on sockets in this folder")
	list(&f.resources, "resources-path", "folder of resources; repeatable")
	fs.StringVar(&f.componentsPath, "components-path", "", "older name of --resources-path")
	list(&f.configs, "config", "Configuration file; repeatable")
	fs.StringVar(&f.dataDir, "data-dir", "", "folder of state and events (edged's own flag)")
	fs.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn, error, fatal")
	fs.BoolVar(&f.logJSON, "log-as-json", false, "log as JSON")
	fs.BoolVar(&f.apiLogging, "enable-api-logging", false, "log API calls")
	fs.BoolVar(&f.metrics, "enable-metrics", true, "serve Prometheus metrics")
	fs.StringVar(&f.metricsPort, "metrics-port", strconv.Itoa(daprdMetricsPort), "port of the metrics")
	fs.StringVar(&f.metricsListen, "metrics-listen-address", "", "address of the metrics")
	fs.BoolVar(&f.profiling, "enable-profiling", false, "serve profiles on the profile port")
	fs.StringVar(&f.profilePort, "profile-port", strconv.Itoa(daprdProfilePort), "port of the profiles")
	fs.StringVar(&f.maxBody, "max-body-size", "4Mi", "largest request body")
	fs.StringVar(&f.readBuffer, "read-buffer-size", "4Ki", "largest request header")
	fs.StringVar(&f.origins, "allowed-origins", "", "origins allowed by CORS, comma separated; *: all")
	fs.IntVar(&f.graceful, "dapr-graceful-shutdown-seconds", 5, "seconds that calls under way may take at the end")
	fs.DurationVar(&f.block, "dapr-block-shutdown-duration", 0, "how long to wait for the application before stopping")
	list(&f.disableInit, "disable-init-endpoints", "initialization endpoints not to call: config, subscribe")
	defineIgnored(fs)
	return fs
}

// defineIgnored accepts the flags that have no meaning without a control plane, so that launchers need not change.
func defineIgnored(fs *flag.FlagSet) {
	for _, name := range []string{
		"mode", "placement-host-address", "scheduler-host-address", "sentry-address", "control-plane-address", "control-plane-trust-domain", "control-plane-namespace",
		"sentry-request-jwt-audiences", "actors-disseminate-timeout", "hot-reload-reconcile-interval", "runtime-path",
		"app-binding-options-timeout", "scheduler-job-streams", "actors-service", "reminders-service",
		"dapr-http-max-request-size", "dapr-http-read-buffer-size",
	} {
		fs.String(name, "", "accepted for daprd's sake; no meaning here")
	}
	for _, name := range []string{"enable-mtls", "disable-builtin-k8s-secret-store", "app-ssl", "wait", "build-info"} {
		fs.Bool(name, false, "accepted for daprd's sake; no meaning here")
	}
}

func (f *daprdFlagSet) config(env func(string) string) (Config, error) {
	cfg := DefaultConfig()
	if f.appID == "" {
		return cfg, errors.New("app-id parameter cannot be empty: give --app-id")
	}
	body, berr := resource.ParseBytes(f.maxBody)
	header, herr := resource.ParseBytes(f.readBuffer)
	if err := errors.Join(flagError("max-body-size", f.maxBody, berr), flagError("read-buffer-size", f.readBuffer, herr)); err != nil {
		return cfg, err
	}
	cfg.Limits.MaxBodySize = body
	if body <= 0 { // daprd: no limit
		cfg.Limits.MaxBodySize = 1 << 30
	}
	cfg.Log = LogConfig{Level: f.logLevel, Format: "logfmt"}
	if f.logJSON {
		cfg.Log.Format = "json"
	}
	cfg.Resources = f.resources
	if f.componentsPath != "" {
		cfg.Resources = append(cfg.Resources, f.componentsPath)
	}
	cfg.Data = f.dataDir
	if cfg.Data == "" {
		cfg.Data = filepath.Join(DefaultConfig().Data, f.appID)
	}
	cfg.Health.Interval = 0
	app := AppConfig{ID: f.appID, Channel: ChannelConfig{
		Protocol: f.appProtocol, MaxConcurrency: f.maxConcurrency,
		Health: AppHealthConfig{
			Enabled: f.health, Path: f.healthPath, Threshold: f.threshold,
			Interval: time.Duration(f.interval) * time.Second, Timeout: time.Duration(f.timeout) * time.Millisecond,
		},
	}}
	d, err := f.dropIn(env)
	if err != nil {
		return cfg, err
	}
	if d.appPort > 0 {
		app.Channel.Address = net.JoinHostPort(unbracket(f.appAddress), f.appPort)
	}
	d.maxHeader = int(header)
	cfg.dropIn = d
	cfg.Apps = []AppConfig{app}
	return cfg, nil
}

func (f *daprdFlagSet) dropIn(env func(string) string) (*dropIn, error) {
	d := &dropIn{
		configFiles: f.configs, allowedOrigins: f.origins, apiLogging: f.apiLogging, appAddress: f.appAddress,
		socketFolder: f.socketFolder, gracefulShutdown: time.Duration(f.graceful) * time.Second, blockShutdown: f.block,
		disableInit: f.disableInit, namespace: firstOf(env("NAMESPACE"), "default"), onlyNamespace: env("NAMESPACE"),
		dataGiven: f.dataDir != "",
	}
	if f.appPort != "" {
		port, err := strconv.Atoi(f.appPort)
		if err != nil || port < 0 || port > 65535 {
			return nil, fmt.Errorf("--app-port %q is not a port number", f.appPort)
		}
		d.appPort = port
	}
	if f.socketFolder == "" {
		for _, host := range strings.Split(firstOf(f.listen, "127.0.0.1"), ",") {
			d.httpAddresses = append(d.httpAddresses, net.JoinHostPort(unbracket(host), f.httpPort))
			d.grpcAddresses = append(d.grpcAddresses, net.JoinHostPort(unbracket(host), f.grpcPort))
		}
	}
	join := func(host, port string) string {
		if port == "" || port == "0" {
			return ""
		}
		return net.JoinHostPort(unbracket(host), port)
	}
	d.publicAddress = join(f.publicListen, f.publicPort)
	d.internalAddress = join(f.internalListen, f.internalPort)
	if f.metrics {
		d.metricsAddress = join(f.metricsListen, f.metricsPort)
	}
	if f.profiling {
		d.profileAddress = join("127.0.0.1", f.profilePort)
	}
	return d, nil
}

func unbracket(host string) string {
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(host), "["), "]")
}

func flagError(name, value string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("--%s %q: %w", name, value, err)
}

// dataFolder makes the folder or, when the default one cannot be written, falls back to a temporary one: daprd needs no
// folder, so what launches daprd gives none. For a folder that the command line names there is no other.
func (d *dropIn) dataFolder(dir string) (chosen string, temporary bool, err error) {
	err = os.MkdirAll(dir, 0o700)
	if err == nil {
		err = syscall.Access(dir, writeAndSearch)
	}
	if err == nil || d.dataGiven {
		return dir, false, err
	}
	chosen, err = os.MkdirTemp("", "edged-")
	return chosen, true, err
}

// writeAndSearch is W_OK and X_OK of access(2).
const writeAndSearch = 2 | 1
