//go:build !js

package tether

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/pion/logging"
)

// pionLog passes pion's warnings and errors on at debug level: what they mean for a tether
// is logged by us. Its debug lines hold ICE passwords and go nowhere.
type pionLog struct{ log *slog.Logger }

// NewLogger implements logging.LoggerFactory.
func (p pionLog) NewLogger(scope string) logging.LeveledLogger {
	return &pionScope{log: p.log, scope: scope}
}

type pionScope struct {
	log   *slog.Logger
	scope string
}

func (s *pionScope) say(msg string) {
	s.log.Debug("pion", "scope", s.scope, "says", msg)
}

func (s *pionScope) sayf(format string, args ...any) {
	if s.log.Enabled(context.Background(), slog.LevelDebug) {
		s.say(fmt.Sprintf(format, args...))
	}
}

func (s *pionScope) Trace(string)                 {}
func (s *pionScope) Tracef(string, ...any)        {}
func (s *pionScope) Debug(string)                 {}
func (s *pionScope) Debugf(string, ...any)        {}
func (s *pionScope) Info(string)                  {}
func (s *pionScope) Infof(string, ...any)         {}
func (s *pionScope) Warn(msg string)              { s.say(msg) }
func (s *pionScope) Warnf(f string, args ...any)  { s.sayf(f, args...) }
func (s *pionScope) Error(msg string)             { s.say(msg) }
func (s *pionScope) Errorf(f string, args ...any) { s.sayf(f, args...) }
