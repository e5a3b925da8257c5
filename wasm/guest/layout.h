// Generated from internal/layout by `go generate ./internal/layout`; do not edit.
#pragma once

// The memory map and the version of all this.
#define WISP_ABI 1
#define IMAGE_BASE 131072
#define STACK_SIZE 65536

// Words of the image's header.
#define H_MAGIC 0
#define H_ABI 1
#define H_ITEMS 2
#define H_DIM 3
#define H_LAYERS 4
#define H_HEADS 5
#define H_FFN 6
#define H_WINDOW 7
#define H_EVENT_TYPES 8
#define H_GAP_BUCKETS 9
#define H_INPUT_SCALE 10
#define H_USER_INV 11
#define H_REACH 12
#define H_DIM_K 13
#define H_FFN_K 14
#define H_HEAD_DIM 15
#define H_HEAD_PAD 16
#define H_INNER 17
#define H_INNER_K 18
#define H_ITEM_K 19
#define H_TYPE 20
#define H_GAP 21
#define H_NORM_GAIN 22
#define H_NORM_BIAS 23
#define H_COLD 24
#define H_BLOCKS 25
#define H_BLOCK_STRIDE 26
#define H_ITEM_ROWS 27
#define H_BLOCK_SCALARS 28
#define H_BLOCK_ATTN_GAIN 29
#define H_BLOCK_ATTN_BIAS 30
#define H_BLOCK_DISTANCE 31
#define H_BLOCK_QKV 32
#define H_BLOCK_QKV_SCALE 33
#define H_BLOCK_QKV_BIAS 34
#define H_BLOCK_OUT 35
#define H_BLOCK_OUT_SCALE 36
#define H_BLOCK_OUT_BIAS 37
#define H_BLOCK_FFN_GAIN 38
#define H_BLOCK_FFN_BIAS 39
#define H_BLOCK_UP 40
#define H_BLOCK_UP_SCALE 41
#define H_BLOCK_UP_BIAS 42
#define H_BLOCK_DOWN 43
#define H_BLOCK_DOWN_SCALE 44
#define H_BLOCK_DOWN_BIAS 45
#define H_STATE 46
#define H_REQUEST 47
#define H_ANSWER 48
#define H_X 49
#define H_NORM 50
#define H_Q 51
#define H_K 52
#define H_V 53
#define H_ACT 54
#define H_ACC 55
#define H_SCORES 56
#define H_PROBS 57
#define H_USER 58
#define H_HEAP 59
#define H_SEEN 60
#define H_BITS 61
#define H_END 62
#define H_MAX_HISTORY 63
#define H_MAX_K 64
#define H_MAX_LIST 65

// Scalars of a block.
#define S_ATTN_IN 0
#define S_Q 1
#define S_K 2
#define S_V 3
#define S_SCORE 4
#define S_VALUE 5
#define S_OUT 6
#define S_FFN_IN 7
#define S_HIDDEN 8

// Messages, in words.
#define REQUEST_WORDS 8
#define EVENT_WORDS 3
#define ANSWER_WORDS 4
#define HIT_WORDS 3
#define STATE_WORDS 16
#define KIND_RECOMMEND 1
#define KIND_SCORE 2
#define FLAG_EXCLUDE_HISTORY 1
#define STATUS_OK 0
#define STATUS_MORE 1
#define STATUS_REQUEST 2
#define STATUS_ITEM 3
#define STATUS_TYPE 4
#define LEVELS 127
#define USER_LEVELS 2047
#define PROB_ONE 32767
