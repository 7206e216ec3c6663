/* Small SVG drawings. See svg.h. */
#include "svg.h"

void svg_begin(FILE *out, double width, double height) {
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" "
            "height=\"%.0f\" "
            "font-family=\"system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif\" "
            "font-size=\"12\" fill=\"#1f2933\">\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n",
            width, height, width, height);
}

void svg_end(FILE *out) { fputs("</svg>\n", out); }

void svg_text(FILE *out, double x, double y, const char *anchor, const char *style,
              const char *text) {
    fprintf(out, "<text x=\"%.2f\" y=\"%.2f\" text-anchor=\"%s\" %s>", x, y, anchor, style);
    for (; *text; text++) {
        if (*text == '<') fputs("&lt;", out);
        else if (*text == '>') fputs("&gt;", out);
        else if (*text == '&') fputs("&amp;", out);
        else if ((unsigned char)*text >= 0x20) fputc(*text, out);
    }
    fputs("</text>\n", out);
}

double svg_x(const svg_axes *a, double x) {
    return a->left + a->width * (x - a->x0) / (a->x1 - a->x0);
}
double svg_y(const svg_axes *a, double y) {
    return a->top + a->height * (1 - (y - a->y0) / (a->y1 - a->y0));
}

static void rule(const svg_axes *a, double x1, double y1, double x2, double y2,
                 const char *colour) {
    fprintf(a->out, "<line x1=\"%.2f\" y1=\"%.2f\" x2=\"%.2f\" y2=\"%.2f\" stroke=\"%s\"/>\n", x1,
            y1, x2, y2, colour);
}

void svg_axes_draw(const svg_axes *a, double x_step, double y_step, const char *x_name,
                   const char *y_name) {
    char label[32], turned[96];
    const double bottom = a->top + a->height, right = a->left + a->width;
    for (int i = 0; a->y0 + i * y_step <= a->y1 + 1e-9; i++) {
        double y = a->y0 + i * y_step;
        snprintf(label, sizeof label, "%g %%", 100 * y);
        if (i) rule(a, a->left, svg_y(a, y), right, svg_y(a, y), "#e4e7eb");
        svg_text(a->out, a->left - 8, svg_y(a, y) + 4, "end", "fill=\"#52606d\"", label);
    }
    for (int i = 0; x_step > 0 && a->x0 + i * x_step <= a->x1 + 1e-9; i++) {
        double x = a->x0 + i * x_step;
        snprintf(label, sizeof label, "%g %%", 100 * x);
        rule(a, svg_x(a, x), bottom, svg_x(a, x), bottom + 4, "#9aa5b1");
        svg_text(a->out, svg_x(a, x), bottom + 18, "middle", "fill=\"#52606d\"", label);
    }
    rule(a, a->left, bottom, right, bottom, "#7b8794");
    svg_text(a->out, a->left + a->width / 2, bottom + 38, "middle", "", x_name);
    snprintf(turned, sizeof turned, "transform=\"rotate(-90 %.1f %.1f)\"", a->left - 52,
             a->top + a->height / 2);
    svg_text(a->out, a->left - 52, a->top + a->height / 2, "middle", turned, y_name);
}

void svg_line(const svg_axes *a, const double *x, const double *y, size_t n, const char *colour,
              bool dashed) {
    fprintf(a->out,
            "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" stroke-linejoin=\"round\"%s "
            "points=\"",
            colour, dashed ? " stroke-dasharray=\"5 4\"" : "");
    for (size_t i = 0; i < n; i++) {
        double top = y[i] > a->y1 ? a->y1 : y[i];
        fprintf(a->out, "%.2f,%.2f ", svg_x(a, x[i]), svg_y(a, top));
    }
    fputs("\"/>\n", a->out);
}

void svg_dot(const svg_axes *a, double x, double y, const char *colour) {
    fprintf(a->out,
            "<circle cx=\"%.2f\" cy=\"%.2f\" r=\"4.5\" fill=\"%s\" stroke=\"#ffffff\" "
            "stroke-width=\"1.5\"/>\n",
            svg_x(a, x), svg_y(a, y), colour);
}

void svg_bar(const svg_axes *a, double x0, double x1, double y, const char *colour) {
    fprintf(a->out,
            "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" rx=\"2\" fill=\"%s\"/>\n",
            svg_x(a, x0), svg_y(a, y), svg_x(a, x1) - svg_x(a, x0), svg_y(a, 0) - svg_y(a, y),
            colour);
}
