package peers

import (
	"errors"
	"fmt"
)

// Raw is not to be had in a browser, where pion has no settings to compare under.
func Raw(Handler) (Pair, error) {
	return nil, fmt.Errorf("peers: raw: %w", errors.ErrUnsupported)
}
