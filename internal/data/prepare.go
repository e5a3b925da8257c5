package data

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"
)

// PrepareOptions say how a source is cleaned.
type PrepareOptions struct {
	// Name of the data set; where empty, the name of the output folder.
	Name string
	// Core drops users and items with fewer events until none is left; 0 is
	// off. Items dropped by it leave the catalogue.
	Core int
	// BotPerMinute drops users with more events other than ratings within some
	// 60 s; 0 means 60, below 0 is off.
	BotPerMinute int
	// RatingsPerMinute does the same for ratings, which people can give in
	// bulk; 0 means 500, below 0 is off.
	RatingsPerMinute int
	// RatingLo and RatingHi are the ends of the scale of ratings; ratings
	// outside are dropped. Both 0: the least and greatest rating in the data, or
	// one that ends with the only rating there is.
	RatingLo, RatingHi float32
	// NoColdItems leaves items without events out of the catalogue.
	NoColdItems bool
	// Partitions is the number of temporary files that events are spread over,
	// one of which is in memory at a time; 0 means 64.
	Partitions int
	// Command is the command line, to be written down; it changes nothing else.
	Command string
}

// Progress is told how far a long task is: in stage, done of total units are
// done; total is 0 where it is not known.
type Progress func(stage string, done, total int64)

func (p Progress) report(stage string, done, total int64) {
	if p != nil {
		p(stage, done, total)
	}
}

// The rows of the files of a prepared data set.
type (
	eventRow struct {
		User  int32   `parquet:"user,delta"`
		Item  int32   `parquet:"item"`
		Type  int32   `parquet:"type"`
		Value float32 `parquet:"value"`
		Time  int64   `parquet:"time,delta"`
	}
	itemRow struct {
		ID         string      `parquet:"id"`
		Title      string      `parquet:"title"`
		Text       string      `parquet:"text"`
		Categories []string    `parquet:"categories,list"`
		Attributes []attribute `parquet:"attributes,list"`
	}
	userRow struct {
		ID          string      `parquet:"id"`
		Description string      `parquet:"description"`
		Attributes  []attribute `parquet:"attributes,list"`
	}
	attribute struct {
		Key   string `parquet:"key"`
		Value string `parquet:"value"`
	}
)

// Prepare reads and cleans src and writes it to the folder out in the form
// that Load and Stream read. Its memory grows with the number of users and
// items, not with that of events. Users and items are numbered in the order of
// their first appearance among the cleaned events in the event file; items
// without events follow in the order of the item file.
//
// Cleaning drops, in this order: broken rows; of exact duplicates all but the
// last; of ratings of one item by one user at one moment all but the last in
// the file; all events of users faster than a person; what is outside the
// k-core. The manifest says how many rows each step dropped.
//
// The folder appears whole or not at all: on an error, or when ctx ends, an
// earlier data set in out stays as it was. An out that holds something else is
// refused with ErrExists. Other errors wrap ErrSource, ErrOptions or ErrEmpty.
// Progress may be nil.
func Prepare(ctx context.Context, src Source, opts PrepareOptions, out string, progress Progress) (*Manifest, error) {
	if err := src.check(); err != nil {
		return nil, err
	}
	switch {
	case opts.Core < 0:
		return nil, fmt.Errorf("%w: core %d is negative", ErrOptions, opts.Core)
	case opts.Partitions < 0 || opts.Partitions > 1<<10:
		return nil, fmt.Errorf("%w: %d partitions; use 1 to 1024", ErrOptions, opts.Partitions)
	case (opts.RatingLo != 0 || opts.RatingHi != 0) && !(opts.RatingLo < opts.RatingHi):
		return nil, fmt.Errorf("%w: ratings from %g to %g; the lower end comes first", ErrOptions, opts.RatingLo, opts.RatingHi)
	}
	opts.Name = cmp.Or(opts.Name, filepath.Base(out))
	opts.BotPerMinute = cmp.Or(opts.BotPerMinute, 60)
	opts.RatingsPerMinute = cmp.Or(opts.RatingsPerMinute, 500)
	opts.Partitions = cmp.Or(opts.Partitions, 64)
	p := &preparation{ctx: ctx, src: src, opts: opts, progress: progress}
	ours := func(dir string) bool {
		_, err := ReadManifest(dir)
		return err == nil
	}
	if err := replaceDir(out, ours, []string{manifestFile, eventsFile, itemsFile, usersFile}, p.run); err != nil {
		return nil, err
	}
	return &p.manifest, nil
}

// preparation is one call of Prepare.
type preparation struct {
	ctx      context.Context
	src      Source
	opts     PrepareOptions
	progress Progress
	manifest Manifest

	users, items interner
	spill        *spill
}

// interner numbers strings in the order in which it first gets them.
type interner struct {
	index map[string]int32
	names []string
}

func (n *interner) id(name string) int32 {
	i, ok := n.index[name]
	if !ok {
		if n.index == nil {
			n.index = map[string]int32{}
		}
		i = int32(len(n.names))
		name = strings.Clone(name) // it may be part of a whole row
		n.index[name] = i
		n.names = append(n.names, name)
	}
	return i
}

func (p *preparation) run(dir string) error {
	temp := filepath.Join(filepath.Dir(dir), "spill")
	if err := os.Mkdir(temp, 0o755); err != nil {
		return fmt.Errorf("data: temporary folder: %w", err)
	}
	p.spill = newSpill(temp, p.opts.Partitions)
	m := &p.manifest
	*m = Manifest{Format: manifestFormat, Version: ManifestVersion, Name: p.opts.Name, Core: p.opts.Core, OrderOnly: p.src.Format == sequences, Command: p.opts.Command}
	if err := p.read(); err != nil {
		return err
	}
	if err := p.clean(); err != nil {
		return err
	}
	keepUser, keepItem, err := core(p.ctx, p.spill, p.opts.Core, p.users.names, p.items.names, &m.EventReport, p.progress)
	if err != nil {
		return err
	}
	o, err := p.order(keepUser, keepItem)
	if err != nil {
		return err
	}
	if err := p.writeEvents(filepath.Join(dir, eventsFile), o); err != nil {
		return err
	}
	if err := p.writeItems(filepath.Join(dir, itemsFile), o.items, keepItem); err != nil {
		return err
	}
	if err := p.writeUsers(filepath.Join(dir, usersFile), o.users); err != nil {
		return err
	}
	for _, path := range []string{p.src.Events, p.src.Items, p.src.Users} {
		if path == "" {
			continue
		}
		f, err := describe(path)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrSource, err)
		}
		m.Sources = append(m.Sources, f)
	}
	for _, name := range []string{eventsFile, itemsFile, usersFile} {
		f, err := describe(filepath.Join(dir, name))
		if err != nil {
			return fmt.Errorf("data: output: %w", err)
		}
		m.Files = append(m.Files, f)
	}
	if err := p.ctx.Err(); err != nil {
		return err
	}
	return writeJSON(filepath.Join(dir, manifestFile), m)
}

func (p *preparation) tick(stage string) func(done, total int64) error {
	return func(done, total int64) error {
		p.progress.report(stage, done, total)
		return p.ctx.Err()
	}
}

// read spills the sound rows of the event file.
func (p *preparation) read() error {
	lo, hi := p.opts.RatingLo, p.opts.RatingHi
	return p.spill.fill(func(add func(*record) error) error {
		var spillErr error
		tick := func(done, total int64) error { return cmp.Or(spillErr, p.tick("read")(done, total)) }
		return scan(p.src.Events, p.src.openEvents, &p.manifest.EventReport, tick, func(line int64, e Event) *fault {
			if e.Kind == Rating && lo != hi && (e.Value < lo || e.Value > hi) {
				return &fault{reasonScale, fmt.Sprintf("%g is not between %g and %g", e.Value, lo, hi)}
			}
			r := record{user: p.users.id(e.User), item: p.items.id(e.Item), kind: e.Kind, value: e.Value, time: e.Time, line: line}
			if err := add(&r); err != nil && spillErr == nil {
				spillErr = fmt.Errorf("data: temporary file: %w", err)
			}
			return nil
		})
	})
}

func (p *preparation) clean() error {
	c := cleaner{
		file: p.src.Events, users: p.users.names, rep: &p.manifest.EventReport,
		botPerMinute: p.opts.BotPerMinute, ratingsPerMinute: p.opts.RatingsPerMinute,
	}
	for i := range p.spill.counts {
		if err := p.tick("clean")(int64(i), int64(len(p.spill.counts))); err != nil {
			return err
		}
		records, err := p.spill.load(i)
		if err != nil {
			return err
		}
		if err := p.spill.store(i, c.clean(records)); err != nil {
			return err
		}
	}
	return nil
}

// order is the final numbering: users and items list interned indices, counts
// the events of each user.
type order struct {
	users, items []int32
	counts       []int64
}

// order drops from the spill what the k-core left out, numbers users and items
// anew and sorts each part by user, time and line.
func (p *preparation) order(keepUser, keepItem []bool) (*order, error) {
	m := &p.manifest
	const never = int64(1) << 62
	firstUser, firstItem := slices.Repeat([]int64{never}, len(keepUser)), slices.Repeat([]int64{never}, len(keepItem))
	events := make([]int64, len(keepUser))
	m.From, m.To = never, -1
	rated := false
	for i := range p.spill.counts {
		if err := p.spill.scan(i, func(r *record) {
			if !keepUser[r.user] || !keepItem[r.item] {
				return
			}
			m.Events++
			events[r.user]++
			firstUser[r.user], firstItem[r.item] = min(firstUser[r.user], r.line), min(firstItem[r.item], r.line)
			m.From, m.To = min(m.From, r.time), max(m.To, r.time)
			if r.kind == Rating {
				if !rated {
					m.RatingLo, m.RatingHi, rated = r.value, r.value, true
				}
				m.RatingLo, m.RatingHi = min(m.RatingLo, r.value), max(m.RatingHi, r.value)
			}
		}); err != nil {
			return nil, err
		}
	}
	m.EventReport.Kept = m.Events
	if m.Events == 0 {
		return nil, fmt.Errorf("%w: %s: %s; loosen what dropped most", ErrEmpty, p.src.Events, m.EventReport.String())
	}
	switch {
	case p.opts.RatingLo != p.opts.RatingHi:
		m.RatingLo, m.RatingHi = p.opts.RatingLo, p.opts.RatingHi
	case !rated:
		m.RatingLo, m.RatingHi = 1, RatingLevels // any scale will do
	case m.RatingLo == m.RatingHi:
		// Levels have to differ, and who rates all alike dislikes nothing: the one
		// rating is of the highest.
		m.RatingLo -= max(RatingLevels, m.RatingHi, -m.RatingHi)
	}
	m.Types = EventTypes(m.RatingLo, m.RatingHi)

	ranked := func(first []int64) (ids, number []int32) {
		number = slices.Repeat([]int32{-1}, len(first))
		for i, line := range first {
			if line != never {
				ids = append(ids, int32(i))
			}
		}
		// Items share a line where it is a whole history; they were interned in
		// the order of the file.
		slices.SortFunc(ids, func(a, b int32) int { return cmp.Or(cmp.Compare(first[a], first[b]), cmp.Compare(a, b)) })
		for n, id := range ids {
			number[id] = int32(n)
		}
		return ids, number
	}
	o := &order{}
	var userNumber, itemNumber []int32
	o.users, userNumber = ranked(firstUser)
	o.items, itemNumber = ranked(firstItem)
	m.Users, m.Items = len(o.users), len(o.items)
	for _, id := range o.users {
		o.counts = append(o.counts, events[id])
	}
	for i := range p.spill.counts {
		if err := p.tick("sort")(int64(i), int64(len(p.spill.counts))); err != nil {
			return nil, err
		}
		records, err := p.spill.load(i)
		if err != nil {
			return nil, err
		}
		records = slices.DeleteFunc(records, func(r record) bool { return !keepUser[r.user] || !keepItem[r.item] })
		for j := range records {
			r := &records[j]
			r.user, r.item = userNumber[r.user], itemNumber[r.item]
		}
		slices.SortFunc(records, byUserAndTime)
		if err := p.spill.store(i, records); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// writeEvents writes the events user by user. Each part of the spill has its
// users in the final order, so that one reader on each is enough.
func (p *preparation) writeEvents(path string, o *order) error {
	readers := make([]*spillReader, len(p.spill.counts))
	for i := range readers {
		r, err := p.spill.open(i)
		if err != nil {
			return err
		}
		defer r.file.Close() //nolint:errcheck // only read from
		readers[i] = r
	}
	return writeFile(path, func(w io.Writer) error {
		out := newParquetWriter[eventRow](w)
		batch := make([]eventRow, 0, 4096)
		written := int64(0)
		flush := func() error {
			_, err := out.Write(batch)
			written += int64(len(batch))
			batch = batch[:0]
			return cmp.Or(err, p.tick("write")(written, p.manifest.Events))
		}
		for n, id := range o.users {
			in := readers[p.spill.part(id)]
			for range o.counts[n] {
				var r record
				if err := in.next(&r); err != nil {
					return err
				}
				batch = append(batch, eventRow{r.user, r.item, int32(TypeOf(p.manifest.Types, r.kind, r.value)), r.value, r.time})
				if len(batch) == cap(batch) {
					if err := flush(); err != nil {
						return err
					}
				}
			}
		}
		return cmp.Or(flush(), out.Close())
	})
}

// writeItems writes the items with events in the order of ids, with what the
// item file says about them, then those of the item file without any event.
func (p *preparation) writeItems(path string, ids []int32, keep []bool) error {
	found := make([]*Item, len(p.items.names))
	var cold []*Item
	if p.src.Items != "" {
		rep := &Report{}
		p.manifest.ItemReport = rep
		seen := map[string]bool{}
		live := make([]bool, len(found))
		for _, id := range ids {
			live[id] = true
		}
		err := scan(p.src.Items, p.src.openItems, rep, p.tick("items"), func(_ int64, it Item) *fault {
			if seen[it.ID] {
				return &fault{reasonRepeatID, fmt.Sprintf("%q", short(it.ID))}
			}
			seen[it.ID] = true
			id, known := p.items.index[it.ID]
			switch {
			case known && live[id]:
				found[id] = &it
			case known && !keep[id]:
				rep.drop(reasonCore, 1, "")
				return nil
			case p.opts.NoColdItems:
				rep.drop(reasonCold, 1, "")
				return nil
			default:
				cold = append(cold, &it)
			}
			rep.Kept++
			return nil
		})
		if err != nil {
			return err
		}
	}
	p.manifest.ColdItems = len(cold)
	all := make([]*Item, 0, len(ids)+len(cold))
	for _, id := range ids {
		if found[id] == nil {
			found[id] = &Item{ID: p.items.names[id]}
		}
		all = append(all, found[id])
	}
	return writeRows(path, append(all, cold...), func(it *Item) itemRow {
		return itemRow{it.ID, it.Title, it.Text, it.Categories, sortedAttributes(it.Attributes)}
	})
}

// writeUsers writes the users with events, with what the user file says.
func (p *preparation) writeUsers(path string, ids []int32) error {
	found := make([]*User, len(p.users.names))
	for _, id := range ids {
		found[id] = &User{ID: p.users.names[id]}
	}
	if p.src.Users != "" {
		rep := &Report{}
		p.manifest.UserReport = rep
		seen := map[string]bool{}
		err := scan(p.src.Users, p.src.openUsers, rep, p.tick("users"), func(_ int64, u User) *fault {
			if seen[u.ID] {
				return &fault{reasonRepeatID, fmt.Sprintf("%q", short(u.ID))}
			}
			seen[strings.Clone(u.ID)] = true
			id, known := p.users.index[u.ID]
			if !known || found[id] == nil {
				rep.drop(reasonNoEvents, 1, "")
				return nil
			}
			rep.Kept++
			found[id] = &u
			return nil
		})
		if err != nil {
			return err
		}
	}
	all := make([]*User, len(ids))
	for i, id := range ids {
		all[i] = found[id]
	}
	return writeRows(path, all, func(u *User) userRow {
		return userRow{u.ID, u.Description, sortedAttributes(u.Attributes)}
	})
}

func newParquetWriter[T any](w io.Writer) *parquet.GenericWriter[T] {
	return parquet.NewGenericWriter[T](w, parquet.Compression(&zstd.Codec{}), parquet.MaxRowsPerRowGroup(1<<18), parquet.CreatedBy("wisp", "1", ""))
}

func writeRows[T, R any](path string, all []*T, row func(*T) R) error {
	return writeFile(path, func(w io.Writer) error {
		out := newParquetWriter[R](w)
		for chunk := range slices.Chunk(all, 1024) {
			batch := make([]R, len(chunk))
			for i, v := range chunk {
				batch[i] = row(v)
			}
			if _, err := out.Write(batch); err != nil {
				return err
			}
		}
		return out.Close()
	})
}

// sortedAttributes makes a map a list, so that equal data give equal files.
func sortedAttributes(m map[string]string) []attribute {
	list := make([]attribute, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, attribute{k, m[k]})
	}
	return list
}
