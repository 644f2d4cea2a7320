/* The C interface of valyrian.hpp. Build it as a shared library:

     g++ -std=c++17 -O2 -shared -fPIC bridge/cpp/native/valyrian.cpp -o libvalyrian.so

   A function that fails returns NULL or -1, and valyrian_error() says why. Threads can share a
   model; a text belongs to one thread at a time. Later versions only add functions. */

#ifndef VALYRIAN_H
#define VALYRIAN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct valyrian_model valyrian_model;
typedef struct valyrian_text valyrian_text;

/* See the table of settings in the README; `stop` are `stop_count` strings that end in a zero. */
typedef struct valyrian_settings {
  int64_t max_new_tokens;
  double temperature;
  int64_t top_k;
  double top_p;
  double min_p;
  double repetition_penalty;
  int64_t min_new_tokens;
  int64_t seed;
  const char* const* stop;
  size_t stop_count;
} valyrian_settings;

/* What went wrong last in this thread, in one line. */
const char* valyrian_error(void);

/* `instructions` is NULL for the best of this processor, or "base", "avx2" or "avx512". */
valyrian_model* valyrian_load(const char* path, const char* instructions);
/* The same from the bytes of a file, which may be freed afterwards. */
valyrian_model* valyrian_load_bytes(const void* data, size_t size, const char* instructions);
void valyrian_free(valyrian_model* model);

/* Sets how many threads work on each text that starts later; the default is 1. */
int valyrian_set_threads(valyrian_model* model, int64_t count);

/* The settings in the file; its strings are valid as long as the model. */
valyrian_settings valyrian_defaults(const valyrian_model* model);
size_t valyrian_vocabulary(const valyrian_model* model);
size_t valyrian_positions(const valyrian_model* model);

/* Starts a text. NULL settings are those in the file. The model must outlive it. */
valyrian_text* valyrian_start(const valyrian_model* model, const char* prompt, size_t size,
                              const valyrian_settings* settings);
/* Sets `piece` and `size` to the whole characters that the next token adds, perhaps none. Returns 1
   while the text continues, and 0 after its end. The piece is valid until the next call. */
int valyrian_next(valyrian_text* text, const char** piece, size_t* size);
void valyrian_end(valyrian_text* text);

/* These write at most `capacity` elements, and return how many there are. */
int64_t valyrian_encode(const valyrian_model* model, const char* text, size_t size, int32_t* ids,
                        size_t capacity);
int64_t valyrian_decode(const valyrian_model* model, const int32_t* ids, size_t count, char* text,
                        size_t capacity);

/* Writes the logits [count][vocabulary] after each token; at most valyrian_positions() tokens. */
int valyrian_logits(const valyrian_model* model, const int32_t* ids, size_t count, float* logits);

#ifdef __cplusplus
}
#endif

#endif
