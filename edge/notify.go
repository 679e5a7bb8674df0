package edge

import (
	"context"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// notify tells the service manager about this daemon (sd_notify(3)). Without a service manager it does nothing.
func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("service manager not told", "state", state, "error", err)
	}
}

// notifyReload tells the service manager that the daemon goes on with another configuration; READY=1 ends it. The time is
// what Type=notify-reload asks for (sd_notify(3)).
func notifyReload(log *slog.Logger) {
	notify(log, daemon.SdNotifyReloading+"\n"+daemon.SdNotifyMonotonicUsec())
}

// feedWatchdog tells the service manager that edged is alive for as long as healthy says so, at twice the rate that the
// manager asks for. A daemon that cannot serve is left to the manager, which restarts it.
func feedWatchdog(ctx context.Context, log *slog.Logger, healthy func(context.Context) error) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("watchdog settings not understood", "error", err)
	}
	if err != nil || interval == 0 {
		return
	}
	tick := time.NewTicker(interval / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		check, cancel := context.WithTimeout(ctx, interval/2)
		err := healthy(check)
		cancel()
		if err != nil {
			log.Error("self-check failed, the watchdog is not fed", "error", err)
			continue
		}
		notify(log, daemon.SdNotifyWatchdog)
	}
}
