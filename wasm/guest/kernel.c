// wisp's guest kernel: reads a request, encodes the history, scores the items,
// writes an answer. Freestanding, no imports, no allocation. The host checks the
// image (internal/layout) before it gets here; the kernel checks requests.
//
// wasm/ABI.md is the contract, internal/layout the memory map, internal/q8 the
// arithmetic. Shape names: T events, D width, H heads, N items.
#include "gemm.h"
#include "layout.h"
#include "simd.h"

#define EXPORT(name) __attribute__((export_name(#name))) name
#define HEAD ((const u32 *)IMAGE_BASE)
#define H(word) (HEAD[H_##word])
#define IMAGE(type, word) ((const type *)(IMAGE_BASE + H(word)))
#define AT(type, word) ((type *)H(word))

static inline f32 header_float(u32 word) { return ((const f32 *)IMAGE_BASE)[word]; }
static inline u32 min_u32(u32 a, u32 b) { return a < b ? a : b; }
static inline u32 round_up(u32 n, u32 to) { return (n + to - 1) / to * to; }

// Where a request stands between two calls of run. The work is cut into steps;
// each has a cost in multiply-adds, and a call takes steps until their sum
// reaches SLICE.
#define SLICE (1 << 20)
#define NORM_EPSILON 1e-5f

enum phase {
  START,      // check the request
  TEXT,       // encode its text
  LOAD,       // bring the state of earlier events into place, a block a step
  EMBED,      // x = item + type + gap, four events a step
  NORM_ATTN,  // four events: normalise and quantize
  QKV,        // their q, k, v, some rows a step
  STORE_QKV,  // quantize them
  ATTEND,     // attention of one event
  OUT,        // its output projection
  NORM_FFN,   // add it, normalise and quantize
  UP,
  HIDDEN,
  DOWN,
  RESIDUAL,   // add it; on to the next four events, or the next layer
  USER,       // the user vector
  QUERY,      // the vector that is searched for
  RULES,      // rank by rules.h instead of the next three
  EXCLUDE,    // mark what is not to be recommended
  SCAN,       // score the table, some blocks a step
  SCAN_BOUNDED,  // the same, of those items that can be among the best
  SORT,       // take the heap apart, some hits a step
  RATE,       // the vector that the ratings of items are taken with, some rows a step
  LIST,       // score the entries of the list
  VECTOR,     // write the vector of the text
  CLASSES,    // write its classes
  EXPLAIN,    // what explain.h does between two encodings
  SAVE,       // write the state for later events, a block a step
};

struct state {
  u32 phase;
  u32 layer;
  u32 cached;     // events of the request's state that have keys; positions count them, too
  u32 events;     // of the history, the window's at most
  u32 end;        // the position behind the last event
  u32 fresh;      // events that run, behind the cached ones
  u32 extra;      // 1 where each block gives one output more than the answer needs
  u32 last;       // address of the residual stream of the last event
  u32 masks;      // whether the current four are masked rows, see explain.h
  u32 pos;        // first event of the current four
  u32 row;        // progress within the phase
  u32 spread;     // whether SPREAD holds the input of the product at hand
  u32 first_out;  // first event whose block output is needed
  u32 seen;       // items marked in BITS, from SEEN
  u32 heap;       // hits in HEAP
  u32 looked;     // items that bounds did not rule out
  f32 rate_step;  // of the vector that ratings are taken with
  f32 rate_bias;  // by how much the user rates higher than others, in steps
};

struct request {
  u32 started, kind, flags, k, history, list, text, state, rules, reasons;
  u32 data[];  // history events, then the list, then the bytes of the text and of the state, then the rules
};
struct event {
  u32 item, type, gap;
};
struct hit {
  u32 item;
  i32 acc;
  f32 score;
};
struct answer {
  u32 status, hits, vector, row, state;
  struct hit hit[];  // then the vector, then the row, then the state
};

#define ST AT(struct state, STATE)
#define RQ AT(struct request, REQUEST)
#define AN AT(struct answer, ANSWER)

_Static_assert(sizeof(struct state) <= 4 * STATE_WORDS, "state");
_Static_assert(sizeof(struct request) == 4 * REQUEST_WORDS, "request");
_Static_assert(sizeof(struct event) == 4 * EVENT_WORDS, "event");
_Static_assert(sizeof(struct hit) == 4 * HIT_WORDS, "hit");
_Static_assert(sizeof(struct answer) == 4 * ANSWER_WORDS, "answer");

static inline const struct event *events(void) { return (const struct event *)RQ->data; }
static inline const u32 *list(void) { return RQ->data + EVENT_WORDS * RQ->history; }

static u32 finish(u32 status) {
  AN->status = status;
  RQ->started = 0;
  ST->phase = START;
  return status;
}

#include "history.h"

// ---- the image

static inline const char *block(void) { return (const char *)(IMAGE_BASE + H(BLOCKS) + ST->layer * H(BLOCK_STRIDE)); }
#define BLOCK(type, word) ((const type *)(block() + H(BLOCK_##word)))
static inline f32 scalar(u32 i) { return BLOCK(f32, SCALARS)[i]; }

#include "overlay.h"

// ---- the request

// whether a kind of request is about a text and nothing else
static inline u32 of_text(u32 kind) { return kind == KIND_SEARCH || kind == KIND_EMBED || kind == KIND_CLASSIFY; }

// whether the image has what the text of the request is to go through
static u32 answers_text(void) {
  u32 has = H(TEXT_FLAGS);
  if (RQ->kind == KIND_SEARCH) return has & TEXT_ITEM_TEXTS;
  if (RQ->kind == KIND_CLASSIFY) return H(TEXT_CLASSES);
  if (RQ->kind == KIND_EMBED) return H(TEXT_DIM) && (!(RQ->flags & FLAG_ITEM_ROW) || has & TEXT_ITEM_MAP);
  return !RQ->text || has & TEXT_USER_MAP;
}

static u32 check_rules(void);

static u32 check(void) {
  const struct request *r = RQ;
  u32 explain = r->reasons > 0, explains = r->kind == KIND_RECOMMEND || r->kind == KIND_SCORE, takes_history = explains || r->kind == KIND_RATE;
  u32 ranks = r->kind == KIND_RECOMMEND || r->kind == KIND_SEARCH || r->kind == KIND_SIMILAR;
  u32 flags = r->kind == KIND_RECOMMEND ? FLAG_EXCLUDE_HISTORY | FLAG_STATE | FLAG_ATTRIBUTES : r->kind == KIND_SCORE ? FLAG_STATE | FLAG_ATTRIBUTES : r->kind == KIND_EMBED ? FLAG_ITEM_ROW : 0;
  if (r->kind < KIND_RECOMMEND || r->kind > KIND_CLASSIFY || r->flags & ~flags) return STATUS_REQUEST;
  if (ranks ? r->k < 1 || r->k > H(MAX_K) : r->k) return STATUS_REQUEST;
  if (explain && (r->reasons > MAX_REASONS || !explains || r->state || r->flags & FLAG_STATE)) return STATUS_REQUEST;
  if (explain && (ranks ? r->k : r->list) > H(MAX_EXPLAINED)) return STATUS_REQUEST;
  if (r->flags & FLAG_ATTRIBUTES && !explain) return STATUS_REQUEST;
  if (r->history > H(MAX_HISTORY) + explain || r->list > H(MAX_LIST)) return STATUS_REQUEST;
  if (r->kind == KIND_SIMILAR ? r->history != 1 || r->text || r->state : ((r->kind == KIND_EMBED || r->kind == KIND_CLASSIFY) && r->list) || (r->kind == KIND_RATE && r->state) || (!takes_history && (r->history || r->state)))
    return STATUS_REQUEST;
  if ((r->rules && !ranks) || r->rules > H(MAX_RULE_WORDS)) return STATUS_REQUEST;
  if (r->flags & FLAG_ATTRIBUTES && !H(ATTRIBUTES)) return STATUS_NO_ATTRIBUTES;
  if ((r->kind == KIND_RATE && !H(RATINGS)) || (r->kind == KIND_CLASSIFY && !H(TEXT_CLASSES))) return STATUS_NO_HEAD;
  if (!answers_text()) return STATUS_NO_TEXT;
  if (r->text > H(MAX_TEXT)) return STATUS_LONG;
  if (!check_state()) return STATUS_STATE;
  const struct event *e = events();
  for (u32 i = 0; i < r->history; i++) {
    if (e[i].item >= items_in_all()) return STATUS_ITEM;
    if (e[i].type >= H(EVENT_TYPES)) return STATUS_TYPE;
  }
  const u32 *l = list();
  for (u32 i = 0; i < r->list; i++)
    if (l[i] >= items_in_all()) return STATUS_ITEM;
  return check_rules() ? STATUS_OK : STATUS_RULE;
}

// ---- the history encoder

// x = item·scale + type + gap
static void embed(f32 *x, const struct event *e, u32 seconds) {
  u32 d_max = H(DIM);
  const i8 *row = item_row(e->item);
  f32 scale = item_scale(e->item) * header_float(H_INPUT_SCALE);
  u32 bucket = seconds ? 32 - (u32)__builtin_clz(seconds) : 0;
  const f32 *type = IMAGE(f32, TYPE) + e->type * d_max, *gap = IMAGE(f32, GAP) + min_u32(bucket, H(GAP_BUCKETS) - 1) * d_max;
  for (u32 d = 0; d < d_max; d++) x[d] = ((f32)row_column(row, d) * scale + type[d]) + gap[d];
}

// Enters event t of those that run. Behind one that is left out, the gap is to the
// one before that.
static void embed_event(u32 t) {
  f32 *x = AT(f32, X) + t * H(DIM);
  u32 i = RQ->history - ST->fresh;
  const struct event *e = events() + i + t;
  u32 seconds = e->gap;
  if (!t && i) {
    seconds = e[-1].gap + seconds < seconds ? 0xffffffffu : e[-1].gap + seconds;
    if (i == 1 && RQ->history <= H(REACH)) seconds = 0;
  }
  embed(x, e, seconds);
}

// number of last events whose output of the current layer is needed
static u32 outputs_needed(void) { return (H(LAYERS) - 1 - ST->layer) * (H(WINDOW) - 1) + 1 + ST->extra; }

static void begin_layer(void) {
  u32 t = ST->end, need = outputs_needed(), w = H(WINDOW) - 1, new = ST->cached;
  ST->first_out = t > new + need ? t - need : new;
  ST->pos = ST->first_out > new + w ? ST->first_out - w : new;
  ST->phase = NORM_ATTN;
}

static inline u32 events_here(void) { return min_u32(4, ST->end - ST->pos); }

// Events of the current four, from the first whose output is needed.
static inline u32 first_here(void) { return ST->first_out > ST->pos ? ST->first_out - ST->pos : 0; }

// The residual stream of event m of the current four.
static inline f32 *stream(u32 m) { return AT(f32, X) + (ST->masks ? mask_row(m) : ST->pos - ST->cached + m) * H(DIM); }

// norm(x) of event m of the current four, quantized into ACT
static void norm_quant(u32 m, const f32 *gain, const f32 *bias, f32 inv) {
  u32 d_max = H(DIM);
  f32 *y = AT(f32, NORM);
  i16 *a = AT(i16, ACT);
  norm(y, stream(m), gain, bias, d_max, NORM_EPSILON);
  u32 d = 0;
  v128_t inv4 = wasm_f32x4_splat(inv), limit = wasm_f32x4_splat(LEVELS);
  for (; d + 8 <= d_max; d += 8)
    wasm_v128_store(a + packed(m, d), wasm_i16x8_narrow_i32x4(quant4(wasm_v128_load(y + d), inv4, limit), quant4(wasm_v128_load(y + d + 4), inv4, limit)));
  for (; d < d_max; d++) a[packed(m, d)] = (i16)quant(y[d], inv, LEVELS);
  for (; d < H(DIM_K); d++) a[packed(m, d)] = 0;
}

// One step of a matrix product of the first rows of ACT into ACC, from column
// *at on; returns its cost. Sets *at to the next column, or to 0 when all are done.
static u32 product(u32 *at, u32 rows, u32 columns, const i8 *w, u32 k) {
  u32 step = round_up(SLICE / 4 / k + 1, 8), from = *at, to = min_u32(columns, from + step);
  if (!ST->spread) gemm_spread(AT(i32, SPREAD), AT(i16, ACT), k);
  gemm(AT(i32, ACC), columns, AT(i32, SPREAD), rows, w, k, from, to);
  *at = to == columns ? 0 : to;
  ST->spread = *at;
  return 4 * (to - from) * k;
}

// product, and the phase after it
static u32 block_product(u32 columns, const i8 *w, u32 k, u32 next) {
  u32 cost = product(&ST->row, events_here(), columns, w, k);
  if (!ST->row) ST->phase = next;
  return cost;
}

// y[0..8) = acc·scale + bias
static inline void dequant8(v128_t *lo, v128_t *hi, const i32 *acc, const f32 *scale, const f32 *bias) {
  *lo = wasm_f32x4_add(wasm_f32x4_mul(wasm_f32x4_convert_i32x4(wasm_v128_load(acc)), wasm_v128_load(scale)), wasm_v128_load(bias));
  *hi = wasm_f32x4_add(wasm_f32x4_mul(wasm_f32x4_convert_i32x4(wasm_v128_load(acc + 4)), wasm_v128_load(scale + 4)), wasm_v128_load(bias + 4));
}

// quantizes inner values of one of q, k, v
static void store(i16 *dst, const i32 *acc, const f32 *scale, const f32 *bias, f32 inv) {
  v128_t inv4 = wasm_f32x4_splat(inv), limit = wasm_f32x4_splat(LEVELS), lo, hi;
  for (u32 i = 0; i < H(INNER); i += 8) {
    dequant8(&lo, &hi, acc + i, scale + i, bias + i);
    wasm_v128_store(dst + i, wasm_i16x8_narrow_i32x4(quant4(lo, inv4, limit), quant4(hi, inv4, limit)));
  }
}

static void store_qkv(u32 m) {
  u32 n = H(INNER);
  const i32 *acc = AT(i32, ACC) + m * 3 * n;
  const f32 *scale = BLOCK(f32, QKV_SCALE), *bias = BLOCK(f32, QKV_BIAS);
  if (m >= first_here()) store(AT(i16, Q) + m * n, acc, scale, bias, scalar(S_Q));
  u32 row = ST->masks ? mask_row(m) : ST->pos + m;
  store(keys(ST->layer, row), acc + n, scale + n, bias + n, scalar(S_K));
  store(values(ST->layer, row), acc + 2 * n, scale + 2 * n, bias + 2 * n, scalar(S_V));
}

// Attention of event m of the current four, all heads, quantized into ACT. A masked
// row stands for the last event and looks away from that at a distance, see explain.h.
static u32 attend(u32 m) {
  u32 n = H(INNER), pad = H(HEAD_PAD), t = ST->masks ? ST->end : ST->pos + m, w = min_u32(t + 1, H(WINDOW));
  u32 away = ST->masks ? t - ST->pos - m : 0, row = ST->masks ? mask_row(m) : t;
  f32 *score = AT(f32, SCORES);
  i16 *prob = AT(i16, PROBS), *a = AT(i16, ACT);
  f32 v_scale = scalar(S_VALUE), inv = scalar(S_OUT);
  v128_t inv4 = wasm_f32x4_splat(inv), limit = wasm_f32x4_splat(LEVELS), vs4 = wasm_f32x4_splat(v_scale), low = wasm_i32x4_splat(0xffff);
  for (u32 h = 0; h < H(HEADS); h++) {
    const i16 *q = AT(i16, Q) + m * n + h * pad;
    // The rows at distances 0 and 1; from there on it goes backwards. What is read before
    // the first row is part of other scores or of nothing.
    const i16 *own = keys(ST->layer, row) + h * pad, *before = keys(ST->layer, t) - n + h * pad;
    const f32 *bias = BLOCK(f32, DISTANCE) + h * H(WINDOW);
    f32 best = -__builtin_inff();
    for (u32 c = 0; c < w; c += 4, own = before - 3 * n, before -= 4 * n) {
      v128_t acc0 = wasm_i32x4_splat(0), acc1 = acc0, acc2 = acc0, acc3 = acc0;
      const i16 *third = before - n, *fourth = third - n;
      for (u32 j = 0; j < pad; j += 8) {
        v128_t x = wasm_v128_load(q + j);
        acc0 = wasm_i32x4_add(acc0, wasm_i32x4_dot_i16x8(x, wasm_v128_load(own + j)));
        acc1 = wasm_i32x4_add(acc1, wasm_i32x4_dot_i16x8(x, wasm_v128_load(before + j)));
        acc2 = wasm_i32x4_add(acc2, wasm_i32x4_dot_i16x8(x, wasm_v128_load(third + j)));
        acc3 = wasm_i32x4_add(acc3, wasm_i32x4_dot_i16x8(x, wasm_v128_load(fourth + j)));
      }
      v128_t s = wasm_f32x4_mul(wasm_f32x4_convert_i32x4(hsum4(acc0, acc1, acc2, acc3)), wasm_f32x4_splat(scalar(S_SCORE)));
      wasm_v128_store(score + c, wasm_f32x4_add(s, wasm_v128_load(bias + c)));
    }
    if (away) score[away] = -__builtin_inff(); // which gives a weight of zero
    for (u32 c = 0; c < w; c++) best = score[c] > best ? score[c] : best;
    v128_t sum = wasm_f32x4_splat((f32)weights(prob, score, w, best));
    for (u32 j = 0; j < pad; j += 8) {
      // Two rows at a time: lanes 0, 2, 4 and 6 of both, and the others.
      v128_t even = wasm_i32x4_splat(0), odd = even;
      const i16 *first = values(ST->layer, row) + h * pad + j, *second = values(ST->layer, t) - n + h * pad + j;
      for (u32 c = 0; c < w; c += 2, first = second - n, second -= 2 * n) {
        v128_t e = wasm_v128_load32_splat(prob + c), x = wasm_v128_load(first), y = wasm_v128_load(second);
        even = wasm_i32x4_add(even, wasm_i32x4_dot_i16x8(e, wasm_v128_or(wasm_v128_and(x, low), wasm_i32x4_shl(y, 16))));
        odd = wasm_i32x4_add(odd, wasm_i32x4_dot_i16x8(e, wasm_v128_or(wasm_u32x4_shr(x, 16), wasm_v128_andnot(y, low))));
      }
      v128_t lo = wasm_i32x4_shuffle(even, odd, 0, 4, 1, 5), hi = wasm_i32x4_shuffle(even, odd, 2, 6, 3, 7);
      lo = wasm_f32x4_div(wasm_f32x4_mul(wasm_f32x4_convert_i32x4(lo), vs4), sum);
      hi = wasm_f32x4_div(wasm_f32x4_mul(wasm_f32x4_convert_i32x4(hi), vs4), sum);
      wasm_v128_store(a + packed(m, h * pad + j), wasm_i16x8_narrow_i32x4(quant4(lo, inv4, limit), quant4(hi, inv4, limit)));
    }
  }
  for (u32 i = n; i < H(INNER_K); i++) a[packed(m, i)] = 0;
  return 2 * w * n;
}

// x += acc·scale + bias for event m of the current four
static void add(u32 m, const f32 *scale, const f32 *bias) {
  u32 d_max = H(DIM);
  f32 *x = stream(m);
  const i32 *acc = AT(i32, ACC) + m * round_up(d_max, 8);
  u32 d = 0;
  for (; d + 4 <= d_max; d += 4) {
    v128_t y = wasm_f32x4_add(wasm_f32x4_mul(wasm_f32x4_convert_i32x4(wasm_v128_load(acc + d)), wasm_v128_load(scale + d)), wasm_v128_load(bias + d));
    wasm_v128_store(x + d, wasm_f32x4_add(wasm_v128_load(x + d), y));
  }
  for (; d < d_max; d++) x[d] = x[d] + ((f32)acc[d] * scale[d] + bias[d]);
}

// relu(acc·scale + bias) of event m, quantized into ACT
static void hidden(u32 m) {
  u32 n = H(FFN), i = 0;
  const i32 *acc = AT(i32, ACC) + m * round_up(n, 8);
  const f32 *scale = BLOCK(f32, UP_SCALE), *bias = BLOCK(f32, UP_BIAS);
  i16 *a = AT(i16, ACT);
  f32 inv = scalar(S_HIDDEN);
  v128_t inv4 = wasm_f32x4_splat(inv), limit = wasm_f32x4_splat(LEVELS), zero = wasm_f32x4_splat(0), lo, hi;
  for (; i + 8 <= n; i += 8) {
    dequant8(&lo, &hi, acc + i, scale + i, bias + i);
    lo = wasm_f32x4_max(lo, zero), hi = wasm_f32x4_max(hi, zero);
    wasm_v128_store(a + packed(m, i), wasm_i16x8_narrow_i32x4(quant4(lo, inv4, limit), quant4(hi, inv4, limit)));
  }
  for (; i < n; i++) {
    f32 y = (f32)acc[i] * scale[i] + bias[i];
    a[packed(m, i)] = (i16)quant(y > 0 ? y : 0, inv, LEVELS);
  }
  for (; i < H(FFN_K); i++) a[packed(m, i)] = 0;
}

static void user(void) {
  i16 *u = AT(i16, USER);
  u32 d_max = H(DIM), t = ST->events;
  f32 *y = AT(f32, NORM), inv = header_float(H_USER_INV);
  const i16 *cold = IMAGE(i16, COLD);
  if (t) norm(y, (const f32 *)ST->last, IMAGE(f32, NORM_GAIN), IMAGE(f32, NORM_BIAS), d_max, NORM_EPSILON);
  for (u32 d = 0; d < d_max; d++) {
    f32 x = t ? y[d] * inv : (f32)cold[d];
    if (RQ->text) x += AT(f32, PROJECTED)[d] * inv;
    u[d] = (i16)quant(x, 1, USER_LEVELS);
  }
  for (u32 d = d_max; d < H(ITEM_K); d++) u[d] = 0;
}

#include "text.h"

// ---- exact top-K

// The heap's root is the worst hit: the lowest score, among equals the highest item.
static inline u32 worse(const struct hit *a, const struct hit *b) {
  return a->score < b->score || (a->score == b->score && a->item > b->item);
}

static void sift_down(struct hit *h, u32 n, struct hit x) {
  u32 i = 0;
  for (u32 c; (c = 2 * i + 1) < n; i = c) {
    if (c + 1 < n && worse(h + c + 1, h + c)) c++;
    if (!worse(h + c, &x)) break;
    h[i] = h[c];
  }
  h[i] = x;
}

static void push(struct hit x) {
  struct hit *h = AT(struct hit, HEAP);
  if (ST->heap == RQ->k) {
    sift_down(h, ST->heap, x);
    return;
  }
  u32 i = ST->heap++;
  for (; i && worse(&x, h + (i - 1) / 2); i = (i - 1) / 2) h[i] = h[(i - 1) / 2];
  h[i] = x;
}

static inline u32 marked(u32 item) { return AT(u32, BITS)[item / 32] >> (item & 31) & 1; }

static void mark(u32 item) {
  if (marked(item)) return;
  AT(u32, BITS)[item / 32] |= 1u << (item & 31);
  AT(u32, SEEN)[ST->seen++] = item;
}

static void unmark_all(void) {
  for (u32 i = 0; i < ST->seen; i++) AT(u32, BITS)[AT(u32, SEEN)[i] / 32] = 0;
  ST->seen = 0;
}

static void exclude(void) {
  unmark_all();
  const struct event *e = events();
  if (RQ->flags & FLAG_EXCLUDE_HISTORY)
    for (u32 i = 0; i < RQ->history; i++) mark(e[i].item);
  const u32 *l = list();
  for (u32 i = 0; i < RQ->list; i++) mark(l[i]);
}

#include "bounds.h"
#include "heads.h"

// the search is over
static void scanned(void) {
  unmark_all();
  ST->row = 0;
  AN->hits = ST->heap;
  ST->phase = SORT;
}

// The greatest float below x.
static inline f32 below(f32 x) {
  i32 bits;
  __builtin_memcpy(&bits, &x, 4);
  bits = x > 0 ? bits - 1 : x < 0 ? bits + 1 : (i32)0x80000001;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}

// Blocks that scan_rows takes at once.
#define AT_ONCE 4

// Goes through a table in steps, from a block on, and keeps the best items: at each step
// some blocks, apart from each other by so many, and then stride blocks on.
static void scan_steps(const i32 *x, const i8 *rows, u32 k, u32 block, u32 steps, u32 places, u32 apart, u32 stride) {
  u32 n = H(ITEMS), bytes = row_block_bytes(k);
  const i8 *p = rows + block * bytes, *end = p + steps * stride * bytes;
  const struct hit *root = AT(struct hit, HEAP);
  u32 full = ST->heap == RQ->k;
  i32 products[4 * AT_ONCE];
  for (; p != end; p += stride * bytes) {
    u32 first = (u32)(p - rows) / bytes * 4, known = full;
    f32 threshold = 0;
    if (known) {
      // Of equals the first item is best: with the score of the worst hit, those before it count.
      threshold = root->item > first ? below(root->score) : root->score;
      p = scan_rows(x, p, end, apart * bytes, stride * bytes, k, threshold, products);
      if (p == end) break;
      first = (u32)(p - rows) / bytes * 4;
    }
    for (u32 s = 0; s < places; s++) {
      const i8 *at = p + s * apart * bytes;
      i32 *acc = products + 4 * s;
      if (!known) wasm_v128_store(acc, dot_block(x, at, k));
      f32 score[4];
      v128_t scores = wasm_f32x4_mul(wasm_f32x4_convert_i32x4(wasm_v128_load(acc)), wasm_v128_load(at + 4 * k));
      if (known && !wasm_v128_any_true(wasm_f32x4_gt(scores, wasm_f32x4_splat(threshold)))) continue;
      wasm_v128_store(score, scores);
      for (u32 j = 0, item = first + 4 * s * apart; j < 4 && item < n; j++, item++) {
        struct hit h = {item, acc[j], score[j]};
        if ((full && !worse(root, &h)) || marked(item)) continue;
        push(h);
        full = ST->heap == RQ->k;
      }
    }
  }
}

// A processor fetches memory ahead within a page, so that four places of a large table
// come faster than one. What its caches hold anyway is gone through in order.
#define CACHE (2u << 20)

static u32 scan(void) {
  // A search goes through the texts of the items instead of the items.
  u32 search = RQ->kind == KIND_SEARCH, n = H(ITEMS), k = search ? H(TEXT_PAD) : H(ITEM_K);
  u32 from = ST->row, to = min_u32(n, from + round_up(SLICE / k, 4 * AT_ONCE)), blocks = (to - from + 3) / 4, steps = blocks / AT_ONCE;
  const i32 *x = spread_rows(AT(i32, SPREAD), search ? AT(i16, QUERY) : AT(i16, USER), k);
  const i8 *rows = search ? IMAGE(i8, TEXT_ROWS) : IMAGE(i8, ITEM_ROWS);
  if (n > CACHE / k)
    scan_steps(x, rows, k, from / 4, steps, AT_ONCE, steps, 1);
  else
    scan_steps(x, rows, k, from / 4, steps, AT_ONCE, 1, AT_ONCE);
  scan_steps(x, rows, k, from / 4 + AT_ONCE * steps, blocks - AT_ONCE * steps, 1, 0, 1);
  ST->row = to;
  if (to == n) scanned();
  return (to - from) * k;
}

// takes the heap apart, the worst hit first, into the answer from behind
static u32 sort(void) {
  struct hit *h = AT(struct hit, HEAP);
  u32 i = 0;
  for (; i < 512 && ST->heap; i++) {
    u32 n = --ST->heap;
    AN->hit[n] = h[0];
    sift_down(h, n, h[n]);
  }
  return i * 64 + 1;
}

static u32 score_list(void) {
  u32 k = H(ITEM_K), from = ST->row, to = min_u32(RQ->list, from + SLICE / k / 4);
  const u32 *l = list();
  struct table t = item_table();
  const i32 *x = spread_rows(AT(i32, SPREAD), AT(i16, USER), k);
  for (u32 i = from; i < to; i++) {
    i32 acc = dot_block_row(x, table_block(t, l[i]), k, lane(l[i]));
    f32 score = (f32)acc * item_scale(l[i]);
    AN->hit[i] = (struct hit){l[i], acc, RQ->kind == KIND_RATE ? rating(l[i], score) : score};
  }
  ST->row = to;
  return (to - from) * k * 4 + 1;
}

#include "rules.h"
#include "explain.h"

// ---- the machine

// The hits are complete: goes on to the reasons or the state where they are asked for.
static u32 complete(void) {
  if (RQ->reasons) {
    explain_begin();
    return 1;
  }
  if (!(RQ->flags & FLAG_STATE)) return 0;
  ST->row = 0;
  ST->phase = SAVE;
  return 1;
}

// The vector is there that items are ranked by.
static void begin_ranking(void) {
  ST->phase = RQ->kind == KIND_SCORE ? LIST : ranks_by_rules() ? RULES : EXCLUDE;
  RS->phase = RULES_BEGIN;
}

// does one step; returns its cost, or 0 when the answer is complete
static u32 step(void) {
  u32 d = H(DIM), n = events_here(), first = first_here();
  switch (ST->phase) {
    case TEXT: {
      u32 cost = text_step();
      if (TS->phase == TEXT_DONE) ST->phase = RQ->kind == KIND_EMBED ? VECTOR : RQ->kind == KIND_CLASSIFY ? CLASSES : RQ->kind == KIND_SEARCH ? QUERY : LOAD;
      return cost;
    }
    case LOAD:
      if (!ST->row) history_begin();
      if (RQ->state && ST->row < H(LAYERS)) return load_state();
      ST->row = 0;
      ST->phase = EMBED;
      return d;
    case EMBED: {
      u32 to = min_u32(ST->fresh, ST->row + 64), cost = (to - ST->row) * d + 1;
      for (u32 t = ST->row; t < to; t++) embed_event(t);
      ST->row = to;
      if (to == ST->fresh) {
        ST->row = 0;
        ST->layer = 0;
        if (to)
          begin_layer();
        else
          ST->phase = USER;
      }
      return cost;
    }
    case NORM_ATTN:
      for (u32 m = 0; m < n; m++) norm_quant(m, BLOCK(f32, ATTN_GAIN), BLOCK(f32, ATTN_BIAS), scalar(S_ATTN_IN));
      // Without an output to compute, the rows of q are skipped.
      ST->row = first >= n ? H(INNER) : 0;
      ST->phase = QKV;
      return 8 * n * d;
    case QKV:
      return block_product(3 * H(INNER), BLOCK(i8, QKV), H(DIM_K), STORE_QKV);
    case STORE_QKV:
      for (u32 m = 0; m < n; m++) store_qkv(m);
      ST->row = first;
      ST->phase = first < n ? ATTEND : RESIDUAL;
      return 8 * n * d;
    case ATTEND: {
      u32 cost = attend(ST->row);
      ST->row++;
      if (ST->row == n) {
        ST->row = 0;
        ST->phase = OUT;
      }
      return cost;
    }
    case OUT:
      return block_product(round_up(d, 8), BLOCK(i8, OUT), H(INNER_K), NORM_FFN);
    case NORM_FFN:
      for (u32 m = first; m < n; m++) {
        add(m, BLOCK(f32, OUT_SCALE), BLOCK(f32, OUT_BIAS));
        norm_quant(m, BLOCK(f32, FFN_GAIN), BLOCK(f32, FFN_BIAS), scalar(S_FFN_IN));
      }
      ST->phase = UP;
      return 8 * n * d;
    case UP:
      return block_product(round_up(H(FFN), 8), BLOCK(i8, UP), H(DIM_K), HIDDEN);
    case HIDDEN:
      for (u32 m = first; m < n; m++) hidden(m);
      ST->phase = DOWN;
      return 4 * n * H(FFN);
    case DOWN:
      return block_product(round_up(d, 8), BLOCK(i8, DOWN), H(FFN_K), RESIDUAL);
    case RESIDUAL:
      for (u32 m = first; m < n; m++) add(m, BLOCK(f32, DOWN_SCALE), BLOCK(f32, DOWN_BIAS));
      if (ST->masks) {
        next_masked_block();
        return 4 * n * d;
      }
      ST->pos += n;
      ST->phase = NORM_ATTN;
      if (ST->pos == ST->end) {
        if (++ST->layer == H(LAYERS))
          ST->phase = USER;
        else
          begin_layer();
      }
      return 4 * n * d;
    case USER:
      user();
      ST->row = 0;
      ST->heap = 0;
      if (ES->phase)
        ST->phase = EXPLAIN;
      else if (RQ->kind == KIND_RATE)
        rate_begin();
      else
        begin_ranking();
      return 8 * d;
    case QUERY:
      query();
      begin_ranking();
      return 8 * H(TEXT_DIM);
    case RULES: {
      u32 cost = rules_step();
      return cost ? cost : complete();
    }
    case EXCLUDE:
      exclude();
      ST->phase = SCAN;
      if (RQ->kind == KIND_RECOMMEND && H(BOUND_HEAD)) {
        bounds_begin(AT(i16, USER));
        ST->phase = SCAN_BOUNDED;
      }
      return 8 * (RQ->history + RQ->list) + 1;
    case SCAN:
      return scan();
    case SCAN_BOUNDED: {
      u32 cost = scan_bounded();
      if (ST->row == H(ITEMS)) scanned();
      return cost;
    }
    case SORT:
      return ST->heap ? sort() : complete();
    case RATE:
      return rate_user();
    case LIST:
      if (ST->row < RQ->list) return score_list();
      AN->hits = RQ->list;
      return complete();
    case VECTOR:
      answer_vector();
      return 0;
    case CLASSES:
      answer_classes();
      return 0;
    case EXPLAIN:
      return explain_step();
    case SAVE:
      return ST->row < H(LAYERS) ? save_state() : 0;
  }
  return 0;
}

u32 EXPORT(wisp_abi)(void) { return WISP_ABI; }

// Works on the request in memory for a bounded time. Returns STATUS_MORE until
// the answer is complete, then the status that stands in the answer. A request
// whose first word is zero is a new one, whatever went before.
u32 EXPORT(run)(void) {
  if (!RQ->started) {
    RQ->started = 1;
    ST->row = 0;
    ST->spread = 0;
    ST->masks = 0;
    ES->phase = EX_NONE;
    ST->heap = 0;
    ST->looked = 0;
    AN->hits = AN->vector = AN->row = AN->state = 0;
    u32 status = check();
    if (status != STATUS_OK) return finish(status);
    ST->phase = LOAD;
    if (RQ->kind == KIND_SIMILAR) {
      RS->query_inv = load_row(AT(i16, USER), item_table(), events()->item);
      begin_ranking();
    } else if (RQ->text || of_text(RQ->kind)) {
      text_begin();
      ST->phase = TEXT;
    }
  }
  for (u32 cost, sum = 0; sum < SLICE; sum += cost)
    if (!(cost = step())) return finish(STATUS_OK);
  return STATUS_MORE;
}
