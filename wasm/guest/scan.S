# The inner loops of the search for the best items, in assembly for the reason
# given in gemm.S. Where whole tables are read, the offsets behind the highest one, which is
# the one that an engine checks, rise: a processor fetches ahead what is read in that order.

# acc += x · two columns of the rows of a block at offset o
.macro part acc, x, block, o
	local.get \acc
	local.get \block
	i16x8.load8x8_s \o:p2align=0
	local.get \x
	i32x4.dot_i16x8_s
	i32x4.add
	local.set \acc
.endm

# local \at += by
.macro advance at, by
	local.get \at
	i32.const \by
	i32.add
	local.set \at
.endm

# The columns that are left in local \at, by so many fewer, on the stack too.
.macro left at, by
	local.get \at
	i32.const \by
	i32.sub
	local.tee \at
.endm

# local \at = the block behind that at local \before
.macro next_block at, before
	local.get \before
	local.get 3
	i32.add
	local.set \at
.endm

# The scores of four rows on the stack: their sums in local \acc, their scales at offset
# o of local \block.
.macro score acc, block, o
	local.get \block
	v128.load \o:p2align=0
	local.get \acc
	f32x4.convert_i32x4_s
	f32x4.mul
.endm

# Whether a row is above the threshold, of which the best scores are on the stack.
.macro above threshold
	local.get \threshold
	f32x4.splat
	f32x4.gt
	v128.any_true
.endm

.macro keep to, acc, o
	local.get \to
	local.get \acc
	v128.store \o:p2align=0
.endm

# Two columns of four blocks: the offsets of x, then that of the rows.
.macro columns x, o
	local.get 8
	v128.load \x:p2align=0
	local.set 13
	part 14, 13, 9, \o
	part 15, 13, 10, \o
	part 16, 13, 11, \o
	part 17, 13, 12, \o
.endm

.macro move count, x, p
	advance 8, \x
	advance 9, \p
	advance 10, \p
	advance 11, \p
	advance 12, \p
	left 18, \count
.endm

	.section .text.scan_rows,"",@
	.globl scan_rows
	.type scan_rows,@function
# (x, p, end, apart, stride, k, threshold, products) -> p. Locals: 8 where x is read, 9
# to 12 where the blocks are, 13 two columns of x, 14 to 17 sums, 18 columns left.
scan_rows:
	.functype scan_rows (i32, i32, i32, i32, i32, i32, f32, i32) -> (i32)
	.local i32, i32, i32, i32, i32, v128, v128, v128, v128, v128, i32
	block
	loop
	local.get 1
	local.get 2
	i32.eq
	br_if 1
	local.get 0
	local.set 8
	local.get 1
	local.set 9
	next_block 10, 9
	next_block 11, 10
	next_block 12, 11
	local.get 5
	local.set 18
	v128.const 0, 0
	local.tee 14
	local.tee 15
	local.tee 16
	local.set 17
	block
	local.get 18
	i32.const 64
	i32.lt_u
	br_if 0
	loop
	columns 496, 248
	columns 0, 0
	columns 16, 8
	columns 32, 16
	columns 48, 24
	columns 64, 32
	columns 80, 40
	columns 96, 48
	columns 112, 56
	columns 128, 64
	columns 144, 72
	columns 160, 80
	columns 176, 88
	columns 192, 96
	columns 208, 104
	columns 224, 112
	columns 240, 120
	columns 256, 128
	columns 272, 136
	columns 288, 144
	columns 304, 152
	columns 320, 160
	columns 336, 168
	columns 352, 176
	columns 368, 184
	columns 384, 192
	columns 400, 200
	columns 416, 208
	columns 432, 216
	columns 448, 224
	columns 464, 232
	columns 480, 240
	move 64, 512, 256
	i32.const 63
	i32.gt_u
	br_if 0
	end_loop
	end_block
	block
	local.get 18
	i32.eqz
	br_if 0
	loop
	columns 48, 24
	columns 0, 0
	columns 16, 8
	columns 32, 16
	move 8, 64, 32
	br_if 0
	end_loop
	end_block
	score 14, 9, 0
	score 15, 10, 0
	f32x4.pmax
	score 16, 11, 0
	score 17, 12, 0
	f32x4.pmax
	f32x4.pmax
	above 6
	br_if 1
	local.get 1
	local.get 4
	i32.add
	local.set 1
	br 0
	end_loop
	end_block
	keep 7, 17, 48
	keep 7, 16, 32
	keep 7, 15, 16
	keep 7, 14, 0
	local.get 1
	end_function

# Two columns of a block: the offsets of x, then that of the rows.
.macro two acc, x, o
	local.get 0
	v128.load \x:p2align=0
	local.set 3
	part \acc, 3, 1, \o
.endm

	.section .text.dot_block,"",@
	.globl dot_block
	.type dot_block,@function
# (x, p, k) -> products. Locals: 3 two columns of x, 4 and 5 sums.
dot_block:
	.functype dot_block (i32, i32, i32) -> (v128)
	.local v128, v128, v128
	block
	local.get 2
	i32.const 64
	i32.lt_u
	br_if 0
	loop
	two 5, 496, 248
	two 4, 0, 0
	two 5, 16, 8
	two 4, 32, 16
	two 5, 48, 24
	two 4, 64, 32
	two 5, 80, 40
	two 4, 96, 48
	two 5, 112, 56
	two 4, 128, 64
	two 5, 144, 72
	two 4, 160, 80
	two 5, 176, 88
	two 4, 192, 96
	two 5, 208, 104
	two 4, 224, 112
	two 5, 240, 120
	two 4, 256, 128
	two 5, 272, 136
	two 4, 288, 144
	two 5, 304, 152
	two 4, 320, 160
	two 5, 336, 168
	two 4, 352, 176
	two 5, 368, 184
	two 4, 384, 192
	two 5, 400, 200
	two 4, 416, 208
	two 5, 432, 216
	two 4, 448, 224
	two 5, 464, 232
	two 4, 480, 240
	advance 0, 512
	advance 1, 256
	left 2, 64
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
	two 5, 48, 24
	two 4, 0, 0
	two 5, 16, 8
	two 4, 32, 16
	advance 0, 64
	advance 1, 32
	left 2, 8
	br_if 0
	end_loop
	end_block
	local.get 4
	local.get 5
	i32x4.add
	end_function

# Two columns of sixteen rows: the offsets of x, then those of the rows. x is at
# local 8, the rows at local 9, and the sums are in locals 12 to 15.
.macro sixteen x, o0, o1, o2, o3
	local.get 8
	v128.load \x:p2align=0
	local.set 11
	part 15, 11, 9, \o3
	part 14, 11, 9, \o2
	part 13, 11, 9, \o1
	part 12, 11, 9, \o0
.endm

.macro move16 columns, x, p
	advance 8, \x
	advance 9, \p
	left 10, \columns
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
	keep 7, 15, 48
	keep 7, 14, 32
	keep 7, 13, 16
	keep 7, 12, 0
	local.get 1
	end_function
