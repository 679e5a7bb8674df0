package httpapi

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/edged-io/edged/edge/fault"
)

// health answers GET /v1.0/healthz and /v1.0/healthz/outbound: 204 when ready.
func (a *api) health(c *call) bool {
	if !c.is("v1.0", http.MethodGet) {
		return false
	}
	switch c.rest {
	case "":
		a.healthz(c)
	case "outbound":
		if !ready(a.OutboundReady) {
			a.fail(c.w, fault.HealthOutboundNotReady())
			break
		}
		sendEmpty(c.w)
	default:
		return false
	}
	return true
}

func ready(f func() bool) bool { return f == nil || f() }

func (a *api) healthz(c *call) {
	if !ready(a.Ready) {
		var targets []string
		if a.Unready != nil {
			targets = a.Unready()
		}
		a.fail(c.w, fault.HealthNotReady(fmt.Sprint(targets)))
		return
	}
	if id, asked := queryValue(c.r, "appid"); asked && id != a.AppID {
		a.fail(c.w, fault.HealthAppIDNotMatch())
		return
	}
	sendEmpty(c.w)
}

// shutdown answers POST /v1.0/shutdown. The answer is sent before the process stops.
func (a *api) shutdown(c *call) bool {
	if !c.is("v1.0", http.MethodPost) || c.rest != "" {
		return false
	}
	stop := a.Shutdown
	if strings.EqualFold(c.r.Header.Get("dapr-force-shutdown"), "true") {
		stop = a.ForceShutdown
	}
	if stop == nil {
		a.fail(c.w, fault.ShutdownRefused(a.AppID))
		return true
	}
	sendEmpty(c.w)
	_ = http.NewResponseController(c.w).Flush() // a writer that cannot flush sends the answer a little later
	stop()
	return true
}
