// What goes beyond a ranking: the rating that a user would give an item, and the class
// of a text. Included by kernel.c; the arithmetic is that of internal/q8/heads.go.
#pragma once

static inline f32 rate_scalar(u32 i) { return IMAGE(f32, RATE_SCALARS)[i]; }

// How far the ratings of an item lie above their mean, in steps; 0 of an inserted one.
static inline i32 item_bias(u32 item) { return item < H(ITEMS) ? IMAGE(i16, RATE_ITEMS)[item] : 0; }

// The user vector becomes the input of the map.
static void rate_begin(void) {
  const i16 *u = AT(i16, USER);
  i16 *a = AT(i16, ACT);
  for (u32 d = 0; d < H(DIM_K); d++) a[packed(0, d)] = u[d];
  ST->row = 0;
  ST->phase = RATE;
}

// Some rows of the map; behind the last one the vector that items meet takes the place
// of the user's, and what the history says of the user is summed up. Returns the cost.
static u32 rate_user(void) {
  u32 rows = round_up(H(DIM), 8), cost = product(&ST->row, 1, rows, IMAGE(i8, RATE_MAP), H(DIM_K));
  if (ST->row) return cost;
  f32 *y = AT(f32, PROJECTED);
  for (u32 i = 0; i < rows; i += 8) {
    v128_t lo, hi;
    dequant8(&lo, &hi, AT(i32, ACC) + i, IMAGE(f32, RATE_MAP_SCALE) + i, IMAGE(f32, RATE_MAP_BIAS) + i);
    wasm_v128_store(y + i, lo);
    wasm_v128_store(y + i + 4, hi);
  }
  ST->rate_step = quant_row(AT(i16, USER), y, rows, USER_LEVELS);
  const struct event *e = events();
  const i16 *levels = IMAGE(i16, RATE_LEVELS);
  i32 sum = 0, n = 0;
  for (u32 t = 0; t < RQ->history; t++) {
    i32 level = levels[e[t].type];
    if (level == NO_LEVEL) continue;
    sum += level - item_bias(e[t].item);
    n++;
  }
  ST->rate_bias = n ? (f32)sum / ((f32)n + rate_scalar(RATE_SHRINK)) : 0;
  ST->phase = LIST;
  return cost + RQ->history;
}

// The rating of an item with the given score by the vector of rate_user.
static f32 rating(u32 item, f32 score) {
  f32 bias = rate_scalar(RATE_STEP) * (ST->rate_bias + (f32)item_bias(item));
  f32 r = (rate_scalar(RATE_MEAN) + bias) + score * ST->rate_step;
  r = r > rate_scalar(RATE_LOW) ? r : rate_scalar(RATE_LOW);
  return r < rate_scalar(RATE_HIGH) ? r : rate_scalar(RATE_HIGH);
}

// Writes the probability of each class, from the logits in PROJECTED.
static void answer_classes(void) {
  u32 n = H(TEXT_CLASSES);
  f32 *z = AT(f32, PROJECTED), best = z[0];
  i16 *e = AT(i16, PROBS);
  for (u32 i = 1; i < n; i++) best = z[i] > best ? z[i] : best;
  i32 sum = weights(e, z, n, best);
  for (u32 i = 0; i < n; i++) AN->hit[i] = (struct hit){i, e[i], (f32)e[i] / (f32)sum};
  AN->hits = n;
}
