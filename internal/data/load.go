package data

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"path/filepath"

	"github.com/parquet-go/parquet-go"
)

// Load reads the prepared data set in dir into memory, 24 bytes an event. It
// checks every file against the manifest first. Errors wrap ErrPrepared and
// name the damaged file.
func Load(dir string) (*Dataset, error) {
	m, err := ReadManifest(dir)
	if err != nil {
		return nil, err
	}
	d, err := loadCatalogue(dir, m)
	if err != nil {
		return nil, err
	}
	d.Histories = make([][]Interaction, len(d.Users))
	var all []Interaction
	starts := make([]int, len(d.Users)+1)
	if err := readEvents(dir, m, func(user int32, e Interaction) bool {
		if all == nil {
			all = make([]Interaction, 0, min(m.Events, 1<<28)) // whatever the manifest claims
		}
		all = append(all, e)
		starts[user+1] = len(all)
		return true
	}); err != nil {
		return nil, err
	}
	for u := range d.Histories {
		// The capacity ends where the next user starts, so that appending to
		// one history never writes into another.
		d.Histories[u] = all[starts[u]:starts[u+1]:starts[u+1]]
	}
	return d, nil
}

// LoadCatalogue does what Load does, without the events: it has no histories.
func LoadCatalogue(dir string) (*Dataset, error) {
	m, err := ReadManifest(dir)
	if err != nil {
		return nil, err
	}
	return loadCatalogue(dir, m)
}

func loadCatalogue(dir string, m *Manifest) (*Dataset, error) {
	d := &Dataset{Name: m.Name, Types: m.Types, OrderOnly: m.OrderOnly}
	if err := readRows(dir, itemsFile, m, int64(m.Items)+int64(m.ColdItems), func(r *itemRow) error {
		d.Items = append(d.Items, Item{r.ID, r.Title, r.Text, r.Categories, attributeMap(r.Attributes)})
		return nil
	}); err != nil {
		return nil, err
	}
	if err := readRows(dir, usersFile, m, int64(m.Users), func(r *userRow) error {
		d.Users = append(d.Users, User{r.ID, r.Description, attributeMap(r.Attributes)})
		return nil
	}); err != nil {
		return nil, err
	}
	return d, nil
}

// Profile returns what is known of the user with the given index: the
// description and all events. It panics, as a slice does, if there is no such
// user. The history belongs to d.
func (d *Dataset) Profile(user int32) Profile {
	return Profile{User: d.Users[user], History: d.Histories[user]}
}

// UserHistory is all that one user did.
type UserHistory struct {
	User   int32         // index into Dataset.Users
	Events []Interaction // in order of time; they belong to the receiver
}

// Stream reads the histories of the prepared data set in dir one user at a
// time, in the order of their indices, after checking the events against the
// manifest. After an error, which wraps ErrPrepared, it ends.
func Stream(dir string) iter.Seq2[UserHistory, error] {
	return func(yield func(UserHistory, error) bool) {
		m, err := ReadManifest(dir)
		if err != nil {
			yield(UserHistory{}, err)
			return
		}
		h, stopped := UserHistory{}, false
		err = readEvents(dir, m, func(user int32, e Interaction) bool {
			if user != h.User {
				if !yield(h, nil) {
					stopped = true
					return false
				}
				h = UserHistory{User: user}
			}
			h.Events = append(h.Events, e)
			return true
		})
		switch {
		case stopped:
		case err != nil:
			yield(UserHistory{}, err)
		case len(h.Events) > 0:
			yield(h, nil)
		}
	}
}

var errStop = errors.New("data: reading stopped")

// readEvents calls visit for every event, until it returns false.
func readEvents(dir string, m *Manifest, visit func(user int32, e Interaction) bool) error {
	user, last := int32(-1), int64(0)
	err := readRows(dir, eventsFile, m, m.Events, func(r *eventRow) error {
		switch {
		// Every user has events, so that indices never skip one.
		case r.User != user && r.User != user+1, int(r.User) >= m.Users:
			return fmt.Errorf("user %d after %d, of %d", r.User, user, m.Users)
		case r.Item < 0 || int(r.Item) >= m.Items:
			return fmt.Errorf("item %d of %d", r.Item, m.Items)
		case r.Type < 0 || int(r.Type) >= len(m.Types):
			return fmt.Errorf("event type %d of %d", r.Type, len(m.Types))
		case math.IsNaN(float64(r.Value)) || math.IsInf(float64(r.Value), 0):
			return fmt.Errorf("value %g", r.Value)
		case r.Time < 0 || r.Time >= MaxTime || (r.User == user && r.Time < last):
			return fmt.Errorf("time %d after %d", r.Time, last)
		}
		user, last = r.User, r.Time
		if !visit(r.User, Interaction{Item: r.Item, Type: uint8(r.Type), Value: r.Value, Time: r.Time}) {
			return errStop
		}
		return nil
	})
	if err == nil && int(user) != m.Users-1 {
		err = fmt.Errorf("%w: %s ends with user %d of %d", ErrPrepared, filepath.Join(dir, eventsFile), user, m.Users)
	}
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

// readRows calls visit for each of the want rows of a verified file.
func readRows[R any](dir, name string, m *Manifest, want int64, visit func(*R) error) (err error) {
	if err := m.verify(dir, name); err != nil {
		return err
	}
	path := filepath.Join(dir, name)
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w: %s: %w", ErrPrepared, path, err)
		}
	}()
	defer recoverParquet(&err)
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read from
	info, err := f.Stat()
	if err != nil {
		return err
	}
	file, err := parquet.OpenFile(f, info.Size())
	if err != nil {
		return err
	}
	if file.NumRows() != want {
		return fmt.Errorf("%d rows, the manifest says %d", file.NumRows(), want)
	}
	in := parquet.NewGenericReader[R](file)
	defer in.Close() //nolint:errcheck // only read from
	batch := make([]R, 1024)
	row := int64(0)
	for {
		clear(batch) // the reader may reuse what lists point to
		n, err := in.Read(batch)
		for i := range batch[:n] {
			if err := visit(&batch[i]); err != nil {
				return fmt.Errorf("row %d: %w", row, err)
			}
			row++
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func attributeMap(list []attribute) map[string]string {
	if len(list) == 0 {
		return nil
	}
	m := make(map[string]string, len(list))
	for _, a := range list {
		m[a.Key] = a.Value
	}
	return m
}
