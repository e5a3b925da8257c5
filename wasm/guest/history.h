// The state of a session: what the run over a history leaves for the run that
// appends to it. Included by kernel.c; the form is that of internal/layout/state.go.
// Cached events lie before the new ones in the key and value rows of each block,
// oldest first, so that attention goes back over both without looking where one
// ends: bringing int8 rows into that order costs less than the turns of a ring would.
#pragma once

struct session {
  u32 tag, events, zero[2];
  f32 last[];  // (D); then for each block the keys and the values, (cached, D) int8
};
_Static_assert(sizeof(struct session) == 4 * STATE_HEAD_WORDS, "session");

static inline const struct session *given_state(void) { return (const struct session *)(RQ->data + EVENT_WORDS * RQ->history + RQ->list + (RQ->text + 3) / 4); }
static inline struct session *answer_state(void) { return (struct session *)(AN->hit + AN->hits); }

static inline u32 cached_of(u32 events) { return min_u32(events, H(WINDOW) - 1); }
static inline u32 state_row_bytes(u32 events) { return 2 * H(LAYERS) * cached_of(events) * H(DIM); }
static inline u32 state_bytes(u32 events) { return 4 * (STATE_HEAD_WORDS + H(DIM)) + round_up(state_row_bytes(events), 4); }

static inline i16 *keys(u32 layer, u32 t) { return (i16 *)(H(K) + layer * H(KV_STRIDE)) + t * H(INNER); }
static inline i16 *values(u32 layer, u32 t) { return (i16 *)(H(V) + layer * H(KV_STRIDE)) + t * H(INNER); }

static u32 check_state(void) {
  const struct session *s = given_state();
  u32 bytes = RQ->state;
  if (!bytes) return 1;
  if (bytes < 4 * STATE_HEAD_WORDS || s->tag != STATE_TAG || s->events > H(WINDOW) || s->zero[0] || s->zero[1] || bytes != state_bytes(s->events)) return 0;
  const u8 *rows = (const u8 *)(s->last + H(DIM)), *end = (const u8 *)s + bytes;
  for (rows += state_row_bytes(s->events); rows < end; rows++)
    if (*rows) return 0;
  for (u32 d = 0; d < H(DIM); d++)
    if (!(s->last[d] >= -0x1p58f && s->last[d] <= 0x1p58f)) return 0;
  return 1;
}

// Rows of int8 heads without padding to rows of padded int16 heads. Eight values
// go at a time: those behind a head land in its padding, where zeros of the
// queries and of the output map meet them, or are written over by the next head.
static void unpack_rows(i16 *dst, const i8 *src, u32 rows) {
  u32 width = H(HEAD_DIM), pad = H(HEAD_PAD);
  for (u32 i = rows * H(HEADS); i; i--, dst += pad, src += width)
    for (u32 j = 0; j < pad; j += 8) wasm_v128_store(dst + j, wasm_i16x8_load8x8(src + j));
}

// The reverse; it writes up to seven bytes behind the last row.
static void pack_rows(i8 *dst, const i16 *src, u32 rows) {
  u32 width = H(HEAD_DIM), pad = H(HEAD_PAD);
  for (u32 i = rows * H(HEADS); i; i--, src += pad, dst += width)
    for (u32 j = 0; j < pad; j += 8) {
      v128_t x = wasm_v128_load(src + j);
      wasm_v128_store64_lane(dst + j, wasm_i8x16_narrow_i16x8(x, x), 0);
    }
}

// The row of X, of the keys and of the values that belongs to masked row m.
static inline u32 mask_row(u32 m) { return H(REACH) + 4 + m; }

// Begins a history: how much of it is known already. Without new events the
// residual stream of the last one is the state's, as long as the request stands.
static void history_begin(void) {
  ST->cached = RQ->state ? cached_of(given_state()->events) : 0;
  ST->events = min_u32((RQ->state ? given_state()->events : 0) + RQ->history, H(WINDOW));
  ST->end = ST->cached + RQ->history;
  ST->fresh = RQ->history;
  ST->extra = RQ->reasons > 0;
  ST->last = RQ->history ? (u32)(AT(f32, X) + (RQ->history - 1) * H(DIM)) : (u32)given_state()->last;
}

// Brings the cached rows of the next block into place; returns the cost.
static u32 load_state(void) {
  u32 c = ST->cached, size = c * H(DIM), l = ST->row++;
  const i8 *rows = (const i8 *)(given_state()->last + H(DIM)) + 2 * l * size;
  unpack_rows(keys(l, 0), rows, c);
  unpack_rows(values(l, 0), rows + size, c);
  return size / 2 + 1;
}

// Writes the rows of the next block behind the answer; returns the cost.
static u32 save_state(void) {
  u32 c = cached_of(ST->events), size = c * H(DIM), l = ST->row++, bytes = state_bytes(ST->events);
  struct session *s = answer_state();
  i8 *rows = (i8 *)(s->last + H(DIM)) + 2 * l * size;
  if (!l) {
    const f32 *x = (const f32 *)ST->last;
    *s = (struct session){STATE_TAG, ST->events, {0, 0}};
    for (u32 d = 0; d < H(DIM); d++) s->last[d] = ST->events ? x[d] : 0;
  }
  pack_rows(rows, keys(l, ST->end - c), c);
  pack_rows(rows + size, values(l, ST->end - c), c);
  if (ST->row == H(LAYERS)) {
    for (u8 *p = (u8 *)(rows + 2 * size), *end = (u8 *)s + bytes; p < end; p++) *p = 0;
    AN->state = bytes;
  }
  return size / 2 + H(DIM);
}
