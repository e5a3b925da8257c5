package artifact

import (
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// maxWindow is the largest window of a frame that does not declare its whole
// content as one segment: what RFC 8878 asks every decoder to support.
const maxWindow = 8 << 20

// maxBlock is the largest block of a zstd frame, in raw bytes.
const maxBlock = 128 << 10

// newEncoder returns a deterministic encoder: one goroutine, no checksum, as
// the table has one.
func newEncoder(level int) (*zstd.Encoder, error) {
	return zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)),
		zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(maxWindow),
		zstd.WithEncoderCRC(false))
}

// newDecoder returns a decoder that writes no more than the capacity it is
// given.
func newDecoder() (*zstd.Decoder, error) {
	return zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderMaxWindow(1<<40), // checkFrame has bounded it
		zstd.WithDecodeAllCapLimit(true))
}

// decompress returns the raw bytes of the single frame in stored.
func decompress(dec *zstd.Decoder, stored []byte, raw int64) ([]byte, error) {
	if err := checkFrame(stored, raw); err != nil {
		return nil, err
	}
	out, err := dec.DecodeAll(stored, make([]byte, 0, raw))
	if err != nil {
		return nil, err
	}
	if int64(len(out)) != raw {
		return nil, fmt.Errorf("decompresses to %d bytes, %d are declared", len(out), raw)
	}
	return out, nil
}

// checkFrame reports whether stored is one whole frame without a dictionary
// that can hold raw bytes. It walks over the headers of the blocks, so that a
// frame that cannot give what it declares costs no memory.
func checkFrame(stored []byte, raw int64) error {
	var h zstd.Header
	rest, err := h.DecodeAndStrip(stored)
	switch {
	case err != nil:
		return err
	case h.Skippable:
		return errors.New("a skippable frame, want one frame with content")
	case h.DictionaryID != 0:
		return errors.New("the frame needs a dictionary")
	case !h.SingleSegment && h.WindowSize > maxWindow:
		return fmt.Errorf("the frame needs a window of %d bytes, at most %d are allowed", h.WindowSize, maxWindow)
	case h.HasFCS && h.FrameContentSize != uint64(raw):
		return fmt.Errorf("the frame declares %d bytes, the table %d", h.FrameContentSize, raw)
	}
	var most int64 // what the blocks can hold
	for last := false; !last; {
		if len(rest) < 3 {
			return errors.New("the frame is cut off")
		}
		b := uint32(rest[0]) | uint32(rest[1])<<8 | uint32(rest[2])<<16
		last = b&1 != 0
		size := int64(b >> 3)
		if size > maxBlock {
			return fmt.Errorf("a block of %d bytes, at most %d are allowed", size, maxBlock)
		}
		stored := size
		switch b >> 1 & 3 {
		case 0: // raw
			most += size
		case 1: // one byte, repeated
			most += size
			stored = 1
		case 2: // compressed
			most += maxBlock
		default:
			return errors.New("a block of a reserved type")
		}
		if stored > int64(len(rest)-3) {
			return errors.New("the frame is cut off")
		}
		rest = rest[3+stored:]
	}
	checksum := 0
	if h.HasCheckSum {
		checksum = 4
	}
	if len(rest) != checksum {
		return fmt.Errorf("%d bytes follow the last block, want %d", len(rest), checksum)
	}
	if most < raw {
		return fmt.Errorf("the frame holds at most %d bytes, the table declares %d", most, raw)
	}
	return nil
}
