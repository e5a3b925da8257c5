# The innermost loops of the integer matrix products, described in gemm.h.
#
# This is assembly because the order of its instructions is what makes it fast,
# and clang gives no hold on it: it moves the arithmetic of one accumulator
# together over the whole unrolled body, which then needs more vectors than a
# machine has registers. Here every step is complete before the next begins, so
# that 13 vectors are alive at most. Loads go behind two pointers, which move
# once in an unrolled body, the highest offset first: an engine that checks
# bounds in software pays one check for each pointer and body.

# acc += x · y, x in local 7
.macro dot acc, y
	local.get \acc
	local.get 7
	local.get \y
	i32x4.dot_i16x8_s
	i32x4.add
	local.set \acc
.endm

# A row's part of a step: its two columns, at offset x, with the weights in
# locals 5 and 6.
.macro row x, p, q
	local.get 2
	v128.load \x:p2align=0
	local.set 7
	dot \p, 5
	dot \q, 6
.endm

# A step of two columns: loads the weights at offsets w0 and w1.
.macro step w0, w1
	local.get 3
	i16x8.load8x8_s \w1:p2align=0
	local.set 6
	local.get 3
	i16x8.load8x8_s \w0:p2align=0
	local.set 5
.endm

.macro step1 w0, w1, x0, x1, x2, x3
	step \w0, \w1
	row \x0, 8, 9
.endm

.macro step2 w0, w1, x0, x1, x2, x3
	step \w0, \w1
	row \x1, 10, 11
	row \x0, 8, 9
.endm

.macro step4 w0, w1, x0, x1, x2, x3
	step \w0, \w1
	row \x3, 14, 15
	row \x2, 12, 13
	row \x1, 10, 11
	row \x0, 8, 9
.endm

# Eight and thirty-two columns: behind the last two, which have the highest offset, the
# others rise, as a processor fetches ahead what is read in that order.
.macro eight rows
	step\rows 48, 56, 192, 208, 224, 240
	step\rows 0, 8, 0, 16, 32, 48
	step\rows 16, 24, 64, 80, 96, 112
	step\rows 32, 40, 128, 144, 160, 176
.endm

.macro thirty_two rows
	step\rows 240, 248, 960, 976, 992, 1008
	step\rows 0, 8, 0, 16, 32, 48
	step\rows 16, 24, 64, 80, 96, 112
	step\rows 32, 40, 128, 144, 160, 176
	step\rows 48, 56, 192, 208, 224, 240
	step\rows 64, 72, 256, 272, 288, 304
	step\rows 80, 88, 320, 336, 352, 368
	step\rows 96, 104, 384, 400, 416, 432
	step\rows 112, 120, 448, 464, 480, 496
	step\rows 128, 136, 512, 528, 544, 560
	step\rows 144, 152, 576, 592, 608, 624
	step\rows 160, 168, 640, 656, 672, 688
	step\rows 176, 184, 704, 720, 736, 752
	step\rows 192, 200, 768, 784, 800, 816
	step\rows 208, 216, 832, 848, 864, 880
	step\rows 224, 232, 896, 912, 928, 944
.endm

# Moves the pointers by columns, to x and w bytes further on.
.macro move columns, x, w
	local.get 2
	i32.const \x
	i32.add
	local.set 2
	local.get 3
	i32.const \w
	i32.add
	local.set 3
	local.get 4
	i32.const \columns
	i32.sub
	local.tee 4
.endm

.macro columns rows
	block
	local.get 4
	i32.const 32
	i32.lt_u
	br_if 0
	loop
	thirty_two \rows
	move 32, 1024, 256
	i32.const 31
	i32.gt_u
	br_if 0
	end_loop
	end_block
	block
	local.get 4
	i32.eqz
	br_if 0
	loop
	eight \rows
	move 8, 256, 64
	br_if 0
	end_loop
	end_block
.endm

# Writes a row of the result and moves on to the next.
.macro put p, q
	local.get 0
	local.get \q
	v128.store 16:p2align=0
	local.get 0
	local.get \p
	v128.store 0:p2align=0
	local.get 0
	local.get 1
	i32.add
	local.set 0
.endm

# Parameters: 0 the result, 1 bytes of its rows, 2 x, 3 w, 4 columns left.
# Locals: 5 and 6 weights, 7 a row of x, from 8 on two accumulators for each row.
.macro begin name
	.section .text.\name,"",@
	.globl \name
	.type \name,@function
\name:
	.functype \name (i32, i32, i32, i32, i32) -> ()
	.local v128, v128, v128, v128, v128, v128, v128, v128, v128, v128, v128
.endm

	begin gemm_tile1
	columns 1
	put 8, 9
	end_function

	begin gemm_tile2
	columns 2
	put 8, 9
	put 10, 11
	end_function

	begin gemm_tile4
	columns 4
	put 8, 9
	put 10, 11
	put 12, 13
	put 14, 15
	end_function
