/* Writing a model anew with other weight types, from its own weights. */
#ifndef CLI_REQUANT_H
#define CLI_REQUANT_H
#include "exitlm.h"
#include "model_path.h"
#include "kernel/quant.h"

/* Names of the types that can be written, NULL-terminated, and the type behind an index (-1, not
 * given: XL_TYPE_COUNT). */
extern const char *const requant_names[];
xl_type requant_type(int index);

/* Writes the model (all parts of a split one) as one GGUF file: the layers' matrices as `layers`,
 * token embedding and output matrix as `embedding`; XL_TYPE_COUNT leaves them as they are. What has
 * that type already, vectors and all other tensors are copied byte for byte. 0, or the exit
 * status of a failure that has been reported; `target` is then gone. */
int requant_write(const cli_model_path *path, xl_type layers, xl_type embedding,
                  const char *target);

/* Loads the file as a page would. *heads_fit: whether these heads (NULL do) were trained on its
 * weights. */
int requant_verify(const char *file, const exitlm_heads *heads, bool *heads_fit);

#endif
