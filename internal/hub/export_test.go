package hub

import "io"

// WrapWriter makes c write its files through wrap.
func (c *Client) WrapWriter(wrap func(io.Writer) io.Writer) {
	c.prepare = func(f *folder) { f.wrap = wrap }
}
