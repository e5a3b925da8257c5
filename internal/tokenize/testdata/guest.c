// The guest's tokenizer by itself, for tests.
#include "wordpiece.h"

#define EXPORT(name) __attribute__((export_name(#name))) name

static struct wp_state state;

void EXPORT(begin)(const void *blob, const u8 *text, u32 bytes, i32 *ids, u32 max) { wp_begin(&state, blob, text, bytes, ids, max); }
u32 EXPORT(step)(void) { return wp_step(&state); }
u32 EXPORT(count)(void) { return state.count; }
u32 EXPORT(at)(void) { return state.at; }
