// The inner loops of the search for the best items; they are in scan.S.
#pragma once
#include "simd.h"

// Goes through blocks of four rows, [k/8][4][8] int8 and then four scales, from p to end;
// unless apart is 0, through four such streams at once, each so many bytes apart from the
// one before. Returns the first stream's block where one of the streams has a row whose
// score for u, (k), is above the threshold, or end. k is a multiple of eight.
const i8 *scan_rows(const i16 *u, const i8 *p, const i8 *end, u32 apart, u32 k, f32 threshold);
// The same of 64 columns, the usual width of a model.
const i8 *scan_rows64(const i16 *u, const i8 *p, const i8 *end, u32 apart, f32 threshold);

// The product of u with the row of such a block that begins at p.
i32 scan_row(const i16 *u, const i8 *p, u32 k);

// Goes through blocks of sixteen rows in two parts, [k/2][16][2] int8, the first ones
// from p to end, the second ones, of more_k columns, from more. Returns the first
// block with a row whose product with the first part of x is at least the threshold, and
// with a row whose product with both parts is, and leaves these products; or end.
// x is [k/2][4][2] int16, each two columns four times over, for one part after the other.
// Both k are multiples of eight; more_k of zero means that there is no second part.
const i8 *scan_bounds(const i32 *x, const i8 *p, const i8 *more, const i8 *end, u32 k, u32 more_k, i32 threshold, i32 products[16]);
