# The inner loops of the search for the best items, in assembly for the reason
# given in gemm.S.

# acc += x · the eight columns of a row at offset o, x in local 10, the rows at local 7
.macro part acc, o
	local.get \acc
	local.get 7
	i16x8.load8x8_s \o:p2align=0
	local.get 10
	i32x4.dot_i16x8_s
	i32x4.add
	local.set \acc
.endm

# Eight columns of four rows: the offsets of x, then those of the rows.
.macro four x, o0, o1, o2, o3
	local.get 8
	v128.load \x:p2align=0
	local.set 10
	part 14, \o3
	part 13, \o2
	part 12, \o1
	part 11, \o0
.endm

.macro move4 columns, x, p
	local.get 8
	i32.const \x
	i32.add
	local.set 8
	local.get 7
	i32.const \p
	i32.add
	local.set 7
	local.get 9
	i32.const \columns
	i32.sub
	local.tee 9
.endm

# Sums across lanes: local p = (p0+p2, p1+p3, q0+q2, q1+q3). Halves of vectors move
# as floats, which takes an engine one instruction; it knows shuffles of bytes only.
.macro halves p, q
	local.get \p
	local.get \q
	f64x2.extract_lane 0
	f64x2.replace_lane 1
	local.get \q
	local.get \p
	f64x2.extract_lane 1
	f64x2.replace_lane 0
	i32x4.add
	local.set \p
.endm

# The scores of four rows, but for their scales, on the stack; their sums are in locals
# p to s.
.macro scores p, q, r, s
	halves \p, \q
	halves \r, \s
	local.get \p
	local.get \r
	i8x16.shuffle 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27
	local.get \p
	local.get \r
	i8x16.shuffle 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31
	i32x4.add
	f32x4.convert_i32x4_s
.endm

# A search goes through a block of each stream before it goes on: locals 1 the first
# stream's block and 2 its end, 3 the bytes from stream to stream, or 0 where there is
# but one. These macros stand around the first stream's block, and those around the
# others'. A block of which a row is above the threshold ends the search, which is depth
# blocks further out.
.macro streams
	block
	loop
	local.get 1
	local.get 2
	i32.eq
	br_if 1
.endm

.macro others
	block
	local.get 3
	i32.eqz
	br_if 0
.endm

.macro end_streams
	i32.add
	local.set 1
	br 0
	end_loop
	end_block
	local.get 1
.endm

# local \at = the block of the stream behind that with the block at local \before
.macro next_stream at, before
	local.get \before
	local.get 3
	i32.add
	local.set \at
.endm

# A block of four rows at local \at; as many columns as are in local 4.
.macro block_of at, depth
	local.get \at
	local.set 7
	local.get 0
	local.set 8
	local.get 4
	local.set 9
	v128.const 0, 0
	local.tee 11
	local.tee 12
	local.tee 13
	local.set 14
	block
	local.get 9
	i32.const 64
	i32.lt_u
	br_if 0
	loop
	four 112, 224, 232, 240, 248
	four 96, 192, 200, 208, 216
	four 80, 160, 168, 176, 184
	four 64, 128, 136, 144, 152
	four 48, 96, 104, 112, 120
	four 32, 64, 72, 80, 88
	four 16, 32, 40, 48, 56
	four 0, 0, 8, 16, 24
	move4 64, 128, 256
	i32.const 63
	i32.gt_u
	br_if 0
	end_loop
	end_block
	block
	local.get 9
	i32.eqz
	br_if 0
	loop
	four 0, 0, 8, 16, 24
	move4 8, 16, 32
	br_if 0
	end_loop
	end_block
	scores 11, 12, 13, 14
	local.get 7
	v128.load 0:p2align=0
	f32x4.mul
	local.get 5
	f32x4.splat
	f32x4.gt
	v128.any_true
	br_if \depth
.endm

	.section .text.scan_rows,"",@
	.globl scan_rows
	.type scan_rows,@function
# (u, p, end, apart, k, threshold) -> p. Local 6: the block of another stream.
scan_rows:
	.functype scan_rows (i32, i32, i32, i32, i32, f32) -> (i32)
	.local i32, i32, i32, i32, v128, v128, v128, v128, v128
	streams
	block_of 1, 1
	others
	next_stream 6, 1
	block_of 6, 2
	next_stream 6, 6
	block_of 6, 2
	next_stream 6, 6
	block_of 6, 2
	end_block
	local.get 1
	local.get 4
	i32.const 2
	i32.shl
	i32.const 16
	i32.add
	end_streams
	end_function

# acc += x · the eight columns of a row at offset o of a block
.macro add acc, x, at, o
	local.get \acc
	local.get \at
	i16x8.load8x8_s \o:p2align=0
	local.get \x
	i32x4.dot_i16x8_s
	i32x4.add
	local.set \acc
.endm

.macro set acc, x, at, o
	local.get \at
	i16x8.load8x8_s \o:p2align=0
	local.get \x
	i32x4.dot_i16x8_s
	local.set \acc
.endm

.macro add4 x, at, o0, o1, o2, o3
	add 16, \x, \at, \o3
	add 15, \x, \at, \o2
	add 14, \x, \at, \o1
	add 13, \x, \at, \o0
.endm

.macro load_x to, o
	local.get 0
	v128.load \o:p2align=0
	local.set \to
.endm

# A block of four rows of 64 columns at local \at.
.macro block64 at, depth
	local.get \at
	v128.load 256:p2align=0
	set 16, 12, \at, 248
	set 15, 12, \at, 240
	set 14, 12, \at, 232
	set 13, 12, \at, 224
	add4 11, \at, 192, 200, 208, 216
	add4 10, \at, 160, 168, 176, 184
	add4 9, \at, 128, 136, 144, 152
	add4 8, \at, 96, 104, 112, 120
	add4 7, \at, 64, 72, 80, 88
	add4 6, \at, 32, 40, 48, 56
	add4 5, \at, 0, 8, 16, 24
	scores 13, 14, 15, 16
	f32x4.mul
	local.get 17
	f32x4.gt
	v128.any_true
	br_if \depth
.endm

	.section .text.scan_rows64,"",@
	.globl scan_rows64
	.type scan_rows64,@function
# (u, p, end, apart, threshold) -> p: scan_rows of 64 columns, which all stay in locals
# 5 to 12. Local 18: the block of another stream.
scan_rows64:
	.functype scan_rows64 (i32, i32, i32, i32, f32) -> (i32)
	.local v128, v128, v128, v128, v128, v128, v128, v128, v128, v128, v128, v128, v128, i32
	load_x 12, 112
	load_x 11, 96
	load_x 10, 80
	load_x 9, 64
	load_x 8, 48
	load_x 7, 32
	load_x 6, 16
	load_x 5, 0
	local.get 4
	f32x4.splat
	local.set 17
	streams
	block64 1, 1
	others
	next_stream 18, 1
	block64 18, 2
	next_stream 18, 18
	block64 18, 2
	next_stream 18, 18
	block64 18, 2
	end_block
	local.get 1
	i32.const 272
	end_streams
	end_function

# Two columns of sixteen rows: the offsets of x, then those of the rows. x is at
# local 8, the rows at local 9, and the sums are in locals 12 to 15.
.macro part16 acc, o
	local.get \acc
	local.get 9
	i16x8.load8x8_s \o:p2align=0
	local.get 11
	i32x4.dot_i16x8_s
	i32x4.add
	local.set \acc
.endm

.macro sixteen x, o0, o1, o2, o3
	local.get 8
	v128.load \x:p2align=0
	local.set 11
	part16 15, \o3
	part16 14, \o2
	part16 13, \o1
	part16 12, \o0
.endm

.macro move16 columns, x, p
	local.get 8
	i32.const \x
	i32.add
	local.set 8
	local.get 9
	i32.const \p
	i32.add
	local.set 9
	local.get 10
	i32.const \columns
	i32.sub
	local.tee 10
.endm

# All columns of sixteen rows, the number of columns in local 10; leaves locals 8 and 9
# behind them.
.macro columns16
	block
	local.get 10
	i32.const 16
	i32.lt_u
	br_if 0
	loop
	sixteen 112, 224, 232, 240, 248
	sixteen 96, 192, 200, 208, 216
	sixteen 80, 160, 168, 176, 184
	sixteen 64, 128, 136, 144, 152
	sixteen 48, 96, 104, 112, 120
	sixteen 32, 64, 72, 80, 88
	sixteen 16, 32, 40, 48, 56
	sixteen 0, 0, 8, 16, 24
	move16 16, 128, 256
	i32.const 15
	i32.gt_u
	br_if 0
	end_loop
	end_block
	block
	local.get 10
	i32.eqz
	br_if 0
	sixteen 48, 96, 104, 112, 120
	sixteen 32, 64, 72, 80, 88
	sixteen 16, 32, 40, 48, 56
	sixteen 0, 0, 8, 16, 24
	move16 8, 64, 128
	drop
	end_block
.endm

# whether one of the sums is at least the threshold, on the stack
.macro reached
	local.get 12
	local.get 13
	i32x4.max_s
	local.get 14
	local.get 15
	i32x4.max_s
	i32x4.max_s
	local.get 16
	i32x4.ge_s
	v128.any_true
.endm

	.section .text.scan_bounds,"",@
	.globl scan_bounds
	.type scan_bounds,@function
# (x, p, more, end, k, more_k, threshold, products) -> p
scan_bounds:
	.functype scan_bounds (i32, i32, i32, i32, i32, i32, i32, i32) -> (i32)
	.local i32, i32, i32, v128, v128, v128, v128, v128, v128, i32, i32
	local.get 6
	i32x4.splat
	local.set 16
	local.get 4
	i32.const 4
	i32.shl
	local.set 17
	local.get 5
	i32.const 4
	i32.shl
	local.set 18
	block
	loop
	local.get 1
	local.get 3
	i32.eq
	br_if 1
	local.get 0
	local.set 8
	local.get 1
	local.set 9
	local.get 4
	local.set 10
	v128.const 0, 0
	local.tee 12
	local.tee 13
	local.tee 14
	local.set 15
	columns16
	block
	reached
	i32.eqz
	br_if 0
	local.get 5
	i32.eqz
	br_if 2
	local.get 2
	local.set 9
	local.get 5
	local.set 10
	columns16
	reached
	br_if 2
	end_block
	local.get 1
	local.get 17
	i32.add
	local.set 1
	local.get 2
	local.get 18
	i32.add
	local.set 2
	br 0
	end_loop
	end_block
	local.get 7
	local.get 15
	v128.store 48:p2align=0
	local.get 7
	local.get 14
	v128.store 32:p2align=0
	local.get 7
	local.get 13
	v128.store 16:p2align=0
	local.get 7
	local.get 12
	v128.store 0:p2align=0
	local.get 1
	end_function

.macro eight x, o
	local.get 3
	local.get 0
	v128.load \x:p2align=0
	local.get 1
	i16x8.load8x8_s \o:p2align=0
	i32x4.dot_i16x8_s
	i32x4.add
	local.set 3
.endm

.macro move1 columns, x, p
	local.get 0
	i32.const \x
	i32.add
	local.set 0
	local.get 1
	i32.const \p
	i32.add
	local.set 1
	local.get 2
	i32.const \columns
	i32.sub
	local.tee 2
.endm

	.section .text.scan_row,"",@
	.globl scan_row
	.type scan_row,@function
# (u, p, k) -> sum
scan_row:
	.functype scan_row (i32, i32, i32) -> (i32)
	.local v128
	block
	local.get 2
	i32.const 64
	i32.lt_u
	br_if 0
	loop
	eight 112, 224
	eight 96, 192
	eight 80, 160
	eight 64, 128
	eight 48, 96
	eight 32, 64
	eight 16, 32
	eight 0, 0
	move1 64, 128, 256
	i32.const 63
	i32.gt_u
	br_if 0
	end_loop
	end_block
	block
	local.get 2
	i32.eqz
	br_if 0
	loop
	eight 0, 0
	move1 8, 16, 32
	br_if 0
	end_loop
	end_block
	local.get 3
	i32x4.extract_lane 0
	local.get 3
	i32x4.extract_lane 1
	i32.add
	local.get 3
	i32x4.extract_lane 2
	i32.add
	local.get 3
	i32x4.extract_lane 3
	i32.add
	end_function
