package hub

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

// logger hands the server's messages to slog. Notices are the server's chatter at start and stop: debug here.
type logger struct{ log *slog.Logger }

var _ server.Logger = logger{}

func (l logger) Noticef(format string, v ...any) { l.log.Debug(text(format, v), "part", "nats") }
func (l logger) Warnf(format string, v ...any)   { l.log.Warn(text(format, v), "part", "nats") }
func (l logger) Fatalf(format string, v ...any)  { l.log.Error(text(format, v), "part", "nats") }
func (l logger) Errorf(format string, v ...any)  { l.log.Error(text(format, v), "part", "nats") }
func (l logger) Debugf(format string, v ...any)  { l.log.Debug(text(format, v), "part", "nats") }
func (l logger) Tracef(format string, v ...any)  { l.log.Debug(text(format, v), "part", "nats") }

func text(format string, v []any) string { return strings.TrimSpace(fmt.Sprintf(format, v...)) }
