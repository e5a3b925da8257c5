// The inner loops of the search for the best items; they are in scan.S.
#pragma once
#include "simd.h"

// Goes through blocks of four rows, as in rows.h, four at a time: the first at p, the
// others each apart bytes behind the one before it. p goes on by stride until it is end.
// Returns the first block of those of which one has a row whose score is above the
// threshold, and leaves the products of all rows of these blocks; or end. x is what
// spread_rows makes of a vector.
const i8 *scan_rows(const i32 *x, const i8 *p, const i8 *end, u32 apart, u32 stride, u32 k, f32 threshold, i32 products[16]);

// Goes through blocks of sixteen rows in two parts, [k/2][16][2] int8, the first ones
// from p to end, the second ones, of more_k columns, from more. Returns the first
// block with a row whose product with the first part of x is at least the threshold, and
// with a row whose product with both parts is, and leaves these products; or end.
// x is [k/2][4][2] int16, each two columns four times over, for one part after the other.
// Both k are multiples of eight; more_k of zero means that there is no second part.
const i8 *scan_bounds(const i32 *x, const i8 *p, const i8 *more, const i8 *end, u32 k, u32 more_k, i32 threshold, i32 products[16]);
