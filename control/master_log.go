package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
)

// masterLog hands the server's log to slog. The server reports what it cannot go on from by
// Fatalf alone, so that is kept.
type masterLog struct {
	log *slog.Logger

	mu     sync.Mutex
	err    error
	failed chan struct{} // closed by the first Fatalf
}

func newMasterLog(l *slog.Logger) *masterLog {
	if l == nil {
		l = slog.New(slog.DiscardHandler)
	}
	return &masterLog{log: l.With("part", "master"), failed: make(chan struct{})}
}

func (l *masterLog) debug() bool {
	return l.log.Enabled(context.Background(), slog.LevelDebug)
}

// fault returns what the first Fatalf said, nil if there was none.
func (l *masterLog) fault() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *masterLog) write(level slog.Level, format string, v []any) {
	ctx := context.Background()
	if l.log.Enabled(ctx, level) {
		l.log.Log(ctx, level, "nats server", "text", fmt.Sprintf(format, v...))
	}
}

// Noticef implements server.Logger. What is a notice to a server is a detail of a program
// that has one inside.
func (l *masterLog) Noticef(format string, v ...any) { l.write(slog.LevelDebug, format, v) }

// Warnf implements server.Logger.
func (l *masterLog) Warnf(format string, v ...any) { l.write(slog.LevelInfo, format, v) }

// Errorf implements server.Logger.
func (l *masterLog) Errorf(format string, v ...any) { l.write(slog.LevelWarn, format, v) }

// Debugf implements server.Logger.
func (l *masterLog) Debugf(format string, v ...any) { l.write(slog.LevelDebug, format, v) }

// Tracef implements server.Logger.
func (l *masterLog) Tracef(format string, v ...any) { l.write(slog.LevelDebug, format, v) }

// Fatalf implements server.Logger. It ends nothing: the Master does.
func (l *masterLog) Fatalf(format string, v ...any) {
	l.write(slog.LevelError, format, v)
	l.mu.Lock()
	first := l.err == nil
	if first {
		l.err = errors.New(fmt.Sprintf(format, v...))
	}
	l.mu.Unlock()
	if first {
		close(l.failed)
	}
}
