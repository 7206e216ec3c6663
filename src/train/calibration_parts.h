/* Calibration on many machines: a shard's measurements in a part (part_file.h), and all parts of a
 * stage in the place of measuring. A part has its conversations under all settings of the stage;
 * which of them decide is seen again when the parts are together, in the order of the conversations,
 * so the table is that of one machine, byte for byte. */
#ifndef XL_CALIBRATION_PARTS_H
#define XL_CALIBRATION_PARTS_H
#include "calibration.h"
#include "part_file.h"

/* What a part says of the options that it was measured with. */
typedef enum xl_calibration_number {
    XL_CALIBRATED_STAGE,
    XL_CALIBRATED_METRIC,
    XL_CALIBRATED_STRATEGY,
    XL_CALIBRATED_KV,
    XL_CALIBRATED_KV_TYPE,
    XL_CALIBRATED_TEMPERATURE, /* of floats: the bits */
    XL_CALIBRATED_REPLY_TOKENS,
    XL_CALIBRATED_DELTA,
    XL_CALIBRATED_LEVELS, /* a bit each */
    XL_CALIBRATED_SEED,
    XL_CALIBRATED_SEED_HIGH,
    XL_CALIBRATED_CONTEXT,
    XL_CALIBRATED_FIRST_WORD
} xl_calibration_number;
void xl_calibration_numbers(const xl_calibration_options *o, xl_calibration_stage stage,
                            uint32_t *numbers);
/* The other way round; accuracy [XL_LEVELS] is the options' list. */
void xl_calibration_options_of(const uint32_t *numbers, xl_calibration_options *o, float *accuracy);
/* Numbers of the first of the parts; false: none of them can be read. */
bool xl_calibration_look(const char *const *paths, size_t n, uint32_t *numbers);

/* Measures the shard of one stage into the part `path`. The data is split; `heads` is their file. */
exitlm_status xl_calibration_shard(xl_calibration *c, const char *heads, xl_calibration_stage stage,
                                   xl_shard shard, const char *path, exitlm_error *error);
/* Takes the stages that these parts hold, each of them whole: `given`. Without c->data the parts
 * say how many conversations decide. */
exitlm_status xl_calibration_take_parts(xl_calibration *c, const char *heads,
                                        const char *const *paths, size_t n, exitlm_error *error);

#endif
