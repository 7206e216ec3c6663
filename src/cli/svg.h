/* Small SVG drawings: axes, lines, bars. Numbers come out with two decimals, text is escaped. */
#ifndef CLI_SVG_H
#define CLI_SVG_H
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

typedef struct svg_axes { /* a rectangle of the page with its coordinates */
    FILE *out;
    double left, top, width, height;
    double x0, x1, y0, y1; /* data at the left, right, bottom, top */
} svg_axes;

void svg_begin(FILE *out, double width, double height);
void svg_end(FILE *out);
/* anchor: "start", "middle", "end"; style: "" or more attributes */
void svg_text(FILE *out, double x, double y, const char *anchor, const char *style,
              const char *text);
/* Frame lines, ticks every x_step and y_step with labels in percent, and the axes' names. */
void svg_axes_draw(const svg_axes *a, double x_step, double y_step, const char *x_name,
                   const char *y_name);
double svg_x(const svg_axes *a, double x);
double svg_y(const svg_axes *a, double y);
void svg_line(const svg_axes *a, const double *x, const double *y, size_t n, const char *colour,
              bool dashed);
void svg_dot(const svg_axes *a, double x, double y, const char *colour);
void svg_bar(const svg_axes *a, double x0, double x1, double y, const char *colour);

#endif
