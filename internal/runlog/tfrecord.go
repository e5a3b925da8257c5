package runlog

import (
	"encoding/binary"
	"hash/crc32"
)

// A TFRecord is the length of its data, the checksum of the length, the data, and
// the checksum of the data, all little-endian.
const (
	frameHead = 12
	frameTail = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// maskedCRC is the CRC-32C, rotated and shifted so that the checksum of data that
// holds checksums is not degenerate.
func maskedCRC(b []byte) uint32 {
	c := crc32.Checksum(b, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

// frame returns data as a TFRecord.
func frame(data []byte) []byte {
	b := make([]byte, 8, frameHead+len(data)+frameTail)
	binary.LittleEndian.PutUint64(b, uint64(len(data)))
	b = binary.LittleEndian.AppendUint32(b, maskedCRC(b))
	b = append(b, data...)
	return binary.LittleEndian.AppendUint32(b, maskedCRC(data))
}

// unframe returns the data of the TFRecord that b begins with, and its size with
// its frame, 0 where it is torn or damaged. The data is a part of b.
func unframe(b []byte) (data []byte, size int) {
	if len(b) < frameHead+frameTail || binary.LittleEndian.Uint32(b[8:]) != maskedCRC(b[:8]) {
		return nil, 0
	}
	n := binary.LittleEndian.Uint64(b)
	if n > uint64(len(b)-frameHead-frameTail) {
		return nil, 0
	}
	data = b[frameHead : frameHead+n]
	end := frameHead + int(n)
	if binary.LittleEndian.Uint32(b[end:]) != maskedCRC(data) {
		return nil, 0
	}
	return data, end + frameTail
}
