// The text encoder: a text becomes token ids, those a vector, and the vector
// what the request wants of it. Included by kernel.c, whose machine calls
// text_step until it is done; the arithmetic is that of internal/q8/text.go.
// Shape names: T tokens, D width, H heads. Float rows are TEXT_PAD wide, with
// zeros behind D.
#pragma once
#include "wordpiece.h"

enum text_phase {
  TEXT_TOKENIZE,
  TEXT_EMBED,      // x = norm(word + position), some tokens a step
  TEXT_INPUT,      // four tokens: quantize x
  TEXT_QKV,        // their q, k, v, some rows a step
  TEXT_STORE,      // quantize q and k; on to the next four tokens
  TEXT_VALUES,     // quantize v, one head a step
  TEXT_ATTEND,     // attention of four tokens, one head a step
  TEXT_OUT,        // four tokens: the output projection
  TEXT_NORM_OUT,   // x = norm(x + it), quantized
  TEXT_UP,
  TEXT_GELU,
  TEXT_DOWN,
  TEXT_NORM_DOWN,  // x = norm(x + it); on to the next four tokens, or the next layer
  TEXT_POOL,       // the vector of the text
  TEXT_PROJECT,    // what the request wants of it in another space, some rows a step
  TEXT_DONE,
};

struct text_state {
  u32 phase;
  u32 tokens;
  u32 layer;
  u32 pos;      // first token of the current four
  u32 row;      // progress within the phase
  f32 step[4];  // of the rows in ACT
};
_Static_assert(sizeof(struct text_state) <= 4 * STATE_WORDS, "text state");
_Static_assert(sizeof(struct wp_state) <= TOKENIZER_STATE_BYTES, "tokenizer state");
#define TS AT(struct text_state, TEXT_STATE)
#define WP AT(struct wp_state, TOKENIZER_STATE)
#define TOKENIZE_COST (1 << 17)  // of a step of the tokenizer, in multiply-adds

// A packed linear map, whose header words are offsets from base.
struct linear {
  const i8 *w;
  const f32 *scale, *bias;
};
static inline struct linear linear_at(u32 base, u32 word) {
  return (struct linear){(const i8 *)(base + HEAD[word]), (const f32 *)(base + HEAD[word + 1]), (const f32 *)(base + HEAD[word + 2])};
}
static inline u32 text_block(void) { return IMAGE_BASE + H(TEXT_BLOCKS) + TS->layer * H(TEXT_BLOCK_STRIDE); }
#define TEXT_BLOCK(type, word) ((const type *)(text_block() + H(TEXT_##word)))
#define TEXT_LINEAR(word) linear_at(text_block(), H_TEXT_##word)

static inline f32 *text_x(u32 t) { return AT(f32, X) + t * H(TEXT_PAD); }
static inline u32 tokens_here(void) { return min_u32(4, TS->tokens - TS->pos); }
// Row length of the tables of steps, (H, tokens).
static inline u32 step_row(void) { return H(TEXT_TOKENS) + 3; }

// The step of a row of n values and its reciprocal; n a multiple of four.
struct step {
  f32 step, inv;
};

static inline struct step step_of(v128_t top4, f32 levels) {
  f32 l[4];
  wasm_v128_store(l, top4);
  f32 a = l[0] > l[1] ? l[0] : l[1], b = l[2] > l[3] ? l[2] : l[3], top = a > b ? a : b;
  if (top < 0x1p-100f) return (struct step){0, 0};
  return (struct step){top / levels, levels / top};
}

static inline v128_t max_abs(v128_t top, const f32 *x, u32 n) {
  for (u32 i = 0; i < n; i += 4) top = wasm_f32x4_pmax(top, wasm_f32x4_abs(wasm_v128_load(x + i)));
  return top;
}

static inline struct step row_step(const f32 *x, u32 n, f32 levels) { return step_of(max_abs(wasm_f32x4_splat(0), x, n), levels); }

// eight values quantized to int16
static inline v128_t quant8(const f32 *x, v128_t inv, v128_t levels) {
  return wasm_i16x8_narrow_i32x4(quant4(wasm_v128_load(x), inv, levels), quant4(wasm_v128_load(x + 4), inv, levels));
}

// quantizes n values, a multiple of eight; returns the step
static f32 quant_row(i16 *dst, const f32 *x, u32 n, f32 levels) {
  struct step s = row_step(x, n, levels);
  v128_t inv = wasm_f32x4_splat(s.inv), limit = wasm_f32x4_splat(levels);
  for (u32 i = 0; i < n; i += 8) wasm_v128_store(dst + i, quant8(x + i, inv, limit));
  return s.step;
}

// the same into row m of ACT in steps s, filled up to k columns; keeps the step
static void input_scaled(u32 m, const f32 *x, u32 n, u32 k, struct step s) {
  i16 *a = AT(i16, ACT);
  v128_t inv = wasm_f32x4_splat(s.inv), limit = wasm_f32x4_splat(TOKEN_LEVELS), zero = wasm_f32x4_splat(0);
  u32 i = 0;
  for (; i < n; i += 8) wasm_v128_store(a + packed(m, i), quant8(x + i, inv, limit));
  for (; i < k; i += 8) wasm_v128_store(a + packed(m, i), zero);
  TS->step[m] = s.step;
}

static void input_row(u32 m, const f32 *x, u32 n, u32 k) { input_scaled(m, x, n, k, row_step(x, n, TOKEN_LEVELS)); }

// (acc·scale)·step + bias, four values
static inline v128_t step_dequant(const i32 *acc, const struct linear *l, u32 i, v128_t step) {
  v128_t y = wasm_f32x4_mul(wasm_f32x4_convert_i32x4(wasm_v128_load(acc + i)), wasm_v128_load(l->scale + i));
  return wasm_f32x4_add(wasm_f32x4_mul(y, step), wasm_v128_load(l->bias + i));
}

// turns row m of ACC into the floats it stands for, in place; rows a multiple of eight
static f32 *output_row(u32 m, u32 rows, const struct linear *l) {
  i32 *acc = AT(i32, ACC) + m * rows;
  v128_t step = wasm_f32x4_splat(TS->step[m]);
  for (u32 i = 0; i < rows; i += 4) wasm_v128_store(acc + i, step_dequant(acc, l, i, step));
  return (f32 *)acc;
}

static void embed_token(u32 t) {
  u32 d_max = H(TEXT_DIM), pad = H(TEXT_PAD), id = AT(u32, TOKENS)[t];
  const i8 *word = IMAGE(i8, WORD) + id * d_max, *position = IMAGE(i8, POSITION) + t * d_max;
  f32 ws = IMAGE(f32, WORD_SCALE)[id], ps = IMAGE(f32, POSITION_SCALE)[t], *x = text_x(t);
  for (u32 d = 0; d < d_max; d++) x[d] = (f32)word[d] * ws + (f32)position[d] * ps;
  for (u32 d = d_max; d < pad; d++) x[d] = 0;
  norm(x, x, IMAGE(f32, TEXT_NORM_GAIN), IMAGE(f32, TEXT_NORM_BIAS), d_max, header_float(H_TEXT_EPSILON));
}

#include "attention.h"

// q and k of token m of the current four, quantized for each head; v as it is
static void store_text(u32 m) {
  u32 n = H(TEXT_INNER), pad = H(TEXT_HEAD_PAD), t = TS->pos + m;
  struct linear l = TEXT_LINEAR(QKV);
  f32 *y = output_row(m, 3 * n, &l), *v = AT(f32, VALUES) + t * n;
  for (u32 h = 0; h < H(TEXT_HEADS); h++) {
    AT(f32, Q_STEP)[h * step_row() + t] = pack_query(query_of(t, h), m, y + h * pad, pad);
    AT(f32, K_STEP)[h * step_row() + t] = pack_key(keys_of(h), t, y + n + h * pad, pad);
  }
  for (u32 i = 0; i < n; i += 4) wasm_v128_store(v + i, wasm_v128_load(y + 2 * n + i));
}

// x = norm(x + y) for token m of the current four, y from row m of ACC
static void add_norm(u32 m, struct linear l, const f32 *gain, const f32 *bias) {
  u32 pad = H(TEXT_PAD);
  f32 *x = text_x(TS->pos + m), *y = output_row(m, pad, &l);
  for (u32 d = 0; d < pad; d += 4) wasm_v128_store(x + d, wasm_f32x4_add(wasm_v128_load(x + d), wasm_v128_load(y + d)));
  norm(x, x, gain, bias, H(TEXT_DIM), header_float(H_TEXT_EPSILON));
}

// max(x, 0) - |x|/2·erfc(|x|/√2)
static inline v128_t gelu4(v128_t x) {
#define C(v) wasm_f32x4_splat((f32)(v))
  v128_t a = wasm_f32x4_pmin(wasm_f32x4_abs(x), C(4.5));
  v128_t p = C(1.30804719e-05);
  p = wasm_f32x4_add(wasm_f32x4_mul(p, a), C(-0.000250537094));
  p = wasm_f32x4_add(wasm_f32x4_mul(p, a), C(0.00188637257));
  p = wasm_f32x4_add(wasm_f32x4_mul(p, a), C(-0.00664324546));
  p = wasm_f32x4_add(wasm_f32x4_mul(p, a), C(0.00845703576));
  p = wasm_f32x4_add(wasm_f32x4_mul(p, a), C(0.00809339248));
  p = wasm_f32x4_add(wasm_f32x4_mul(p, a), C(-0.0134261828));
  p = wasm_f32x4_add(wasm_f32x4_mul(p, a), C(-0.0638785511));
  p = wasm_f32x4_add(wasm_f32x4_mul(p, a), C(0.111075491));
  return wasm_f32x4_sub(wasm_f32x4_pmax(C(0), x), wasm_f32x4_mul(wasm_f32x4_mul(p, a), wasm_f32x4_sub(C(4.5), a)));
#undef C
}

// the activations of row m of ACC, quantized into row m of ACT
static void gelu_row(u32 m) {
  u32 n = round_up(H(TEXT_FFN), 8);
  i32 *acc = AT(i32, ACC) + m * n;
  struct linear l = TEXT_LINEAR(UP);
  v128_t step = wasm_f32x4_splat(TS->step[m]), top = wasm_f32x4_splat(0);
  for (u32 i = 0; i < n; i += 4) {
    v128_t y = gelu4(step_dequant(acc, &l, i, step));
    top = wasm_f32x4_pmax(top, wasm_f32x4_abs(y));
    wasm_v128_store(acc + i, y);
  }
  input_scaled(m, (f32 *)acc, n, H(TEXT_FFN_K), step_of(top, TOKEN_LEVELS));
}

// y = x over its length, which counts for at least 1e-12; n a multiple of four
static void unit(f32 *y, const f32 *x, u32 n) {
  v128_t sum = wasm_f32x4_splat(0);
  for (u32 d = 0; d < n; d += 4) {
    v128_t v = wasm_v128_load(x + d);
    sum = wasm_f32x4_add(sum, wasm_f32x4_mul(v, v));
  }
  f32 l[4];
  wasm_v128_store(l, sum);
  f32 length = __builtin_sqrtf((l[0] + l[1]) + (l[2] + l[3]));
  v128_t over = wasm_f32x4_splat(length > 1e-12f ? length : 1e-12f);
  for (u32 d = 0; d < n; d += 4) wasm_v128_store(y + d, wasm_f32x4_div(wasm_v128_load(x + d), over));
}

static void pool(void) {
  u32 pad = H(TEXT_PAD), tokens = TS->tokens;
  f32 *y = AT(f32, VECTOR);
  v128_t count = wasm_f32x4_splat((f32)tokens);
  for (u32 d = 0; d < pad; d += 4) {
    if (H(TEXT_FLAGS) & TEXT_CLS) {
      wasm_v128_store(y + d, wasm_v128_load(text_x(0) + d));
      continue;
    }
    v128_t l[4] = {wasm_f32x4_splat(0), wasm_f32x4_splat(0), wasm_f32x4_splat(0), wasm_f32x4_splat(0)};
    for (u32 t = 0; t < tokens; t++) l[t & 3] = wasm_f32x4_add(l[t & 3], wasm_v128_load(text_x(t) + d));
    wasm_v128_store(y + d, wasm_f32x4_div(wasm_f32x4_add(wasm_f32x4_add(l[0], l[1]), wasm_f32x4_add(l[2], l[3])), count));
  }
  if (H(TEXT_FLAGS) & TEXT_NORMALISE) unit(y, y, pad);
}

// the embedding as it meets the items' texts
static void query(void) {
  u32 pad = H(TEXT_PAD);
  f32 *y = AT(f32, NORM);
  v128_t one = wasm_f32x4_splat(QUERY_ONE);
  unit(y, AT(f32, VECTOR), pad);
  for (u32 d = 0; d < pad; d += 8) wasm_v128_store(AT(i16, QUERY) + d, quant8(y + d, one, one));
}

// Begins to encode the request's text.
static void text_begin(void) {
  TS->phase = TEXT_TOKENIZE;
  TS->layer = TS->pos = TS->row = 0;
  wp_begin(WP, IMAGE(u8, TOKENIZER), (const u8 *)(list() + RQ->list), RQ->text, AT(i32, TOKENS), H(TEXT_TOKENS));
}

// The header word of the map that the embedding goes through, or 0.
static u32 projection(void) {
  if (RQ->kind == KIND_SEARCH) return 0;
  if (RQ->kind == KIND_CLASSIFY) return H_CLASS_MAP;
  if (RQ->kind == KIND_EMBED) return RQ->flags & FLAG_ITEM_ROW ? H_ITEM_MAP : 0;
  return H_USER_MAP;
}

// the next four tokens, or the phase after the last
static void next_tokens(u32 again, u32 after) {
  TS->pos += 4;
  TS->phase = again;
  if (TS->pos >= TS->tokens) {
    TS->pos = 0;
    TS->phase = after;
  }
}

// one step of a product of the current four tokens; the phase after it when all rows are done
static u32 text_product(u32 rows, const i8 *w, u32 k, u32 next) {
  u32 cost = product(&TS->row, tokens_here(), rows, w, k);
  if (!TS->row) TS->phase = next;
  return cost;
}

// Does one step; returns its cost. The work is done when the phase is TEXT_DONE.
static u32 text_step(void) {
  u32 d = H(TEXT_PAD), n = tokens_here(), ffn = round_up(H(TEXT_FFN), 8);
  switch (TS->phase) {
    case TEXT_TOKENIZE:
      if (!wp_step(WP)) {
        TS->tokens = WP->count;
        TS->phase = TEXT_EMBED;
      }
      return TOKENIZE_COST;
    case TEXT_EMBED:
      for (u32 m = 0; m < n; m++) embed_token(TS->pos + m);
      next_tokens(TEXT_EMBED, TEXT_INPUT);
      return 16 * n * d;
    case TEXT_INPUT:
      for (u32 m = 0; m < n; m++) input_row(m, text_x(TS->pos + m), d, H(TEXT_DIM_K));
      TS->phase = TEXT_QKV;
      return 4 * n * d;
    case TEXT_QKV:
      return text_product(3 * H(TEXT_INNER), TEXT_BLOCK(i8, QKV), H(TEXT_DIM_K), TEXT_STORE);
    case TEXT_STORE:
      for (u32 m = 0; m < n; m++) store_text(m);
      next_tokens(TEXT_INPUT, TEXT_VALUES);
      return 24 * n * d;
    case TEXT_VALUES:
      AT(f32, V_STEP)[TS->row] = pack_values(TS->row, AT(f32, VALUES));
      TS->row++;
      if (TS->row == H(TEXT_HEADS)) {
        TS->row = 0;
        TS->phase = TEXT_ATTEND;
      }
      return 8 * TS->tokens * H(TEXT_HEAD_PAD);
    case TEXT_ATTEND: {
      u32 h = TS->row, steps = h * step_row();
      u32 cost = attend_head(AT(f32, NORM), h, TS->pos, n, AT(f32, Q_STEP) + steps, AT(f32, K_STEP) + steps, AT(f32, V_STEP)[h]);
      if (++TS->row == H(TEXT_HEADS)) {
        TS->row = 0;
        for (u32 m = 0; m < n; m++) input_row(m, AT(f32, NORM) + m * H(TEXT_INNER), H(TEXT_INNER), H(TEXT_INNER_K));
        TS->phase = TEXT_OUT;
      }
      return cost;
    }
    case TEXT_OUT:
      return text_product(d, TEXT_BLOCK(i8, OUT), H(TEXT_INNER_K), TEXT_NORM_OUT);
    case TEXT_NORM_OUT:
      for (u32 m = 0; m < n; m++) {
        add_norm(m, TEXT_LINEAR(OUT), TEXT_BLOCK(f32, ATTN_GAIN), TEXT_BLOCK(f32, ATTN_BIAS));
        input_row(m, text_x(TS->pos + m), d, H(TEXT_DIM_K));
      }
      TS->phase = TEXT_UP;
      return 16 * n * d;
    case TEXT_UP:
      return text_product(ffn, TEXT_BLOCK(i8, UP), H(TEXT_DIM_K), TEXT_GELU);
    case TEXT_GELU:
      for (u32 m = 0; m < n; m++) gelu_row(m);
      TS->phase = TEXT_DOWN;
      return 16 * n * ffn;
    case TEXT_DOWN:
      return text_product(d, TEXT_BLOCK(i8, DOWN), H(TEXT_FFN_K), TEXT_NORM_DOWN);
    case TEXT_NORM_DOWN:
      for (u32 m = 0; m < n; m++) add_norm(m, TEXT_LINEAR(DOWN), TEXT_BLOCK(f32, FFN_GAIN), TEXT_BLOCK(f32, FFN_BIAS));
      next_tokens(TEXT_ATTEND, TEXT_POOL);
      if (TS->phase == TEXT_POOL && ++TS->layer < H(TEXT_LAYERS)) TS->phase = TEXT_INPUT;
      return 12 * n * d;
    case TEXT_POOL:
      pool();
      TS->phase = TEXT_DONE;
      if (projection()) {
        input_row(0, AT(f32, VECTOR), d, H(TEXT_DIM_K));
        TS->phase = TEXT_PROJECT;
      }
      return TS->tokens * d;
    case TEXT_PROJECT: {
      struct linear l = linear_at(IMAGE_BASE, projection());
      u32 rows = round_up(RQ->kind == KIND_CLASSIFY ? H(TEXT_CLASSES) : H(DIM), 8), cost = product(&TS->row, 1, rows, l.w, H(TEXT_DIM_K));
      if (!TS->row) {
        f32 *y = output_row(0, rows, &l), *to = AT(f32, PROJECTED);
        for (u32 i = 0; i < rows; i += 4) wasm_v128_store(to + i, wasm_v128_load(y + i));
        TS->phase = TEXT_DONE;
      }
      return cost;
    }
  }
  return 1;
}

// Writes the answer to a request for a vector.
static void answer_vector(void) {
  u32 n = H(TEXT_DIM);
  f32 *to = (f32 *)AN->hit;
  AN->vector = n;
  for (u32 d = 0; d < n; d++) to[d] = AT(f32, VECTOR)[d];
  if (!(RQ->flags & FLAG_ITEM_ROW)) return;
  u32 m = H(DIM), pad = round_up(m, 8);
  i16 *row = AT(i16, USER);
  f32 scale = quant_row(row, AT(f32, PROJECTED), pad, LEVELS), inv = header_float(H_USER_INV);
  scale = scale / (inv > 1.0f / ITEM_SCALE_MAX ? inv : 1.0f / ITEM_SCALE_MAX);
  AN->row = m;
  to[n] = scale < ITEM_SCALE_MAX ? scale : ITEM_SCALE_MAX;
  i8 *bytes = (i8 *)(to + n + 1);
  for (u32 d = 0; d < round_up(m, 4); d++) bytes[d] = (i8)row[d];
}
