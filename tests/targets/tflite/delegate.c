/* A LiteRT delegate for the tests: takes the ADD operators of equal float32 shapes and computes gain * (a + b).
 *
 * Options: gain=NUMBER; most=N takes the first N of them only; fail=TEXT refuses to start with that text.
 * The declarations repeat what is needed of tflite/core/c/common.h and external_delegate_interface.h.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, ERROR = 1, ADD = 0, FLOAT32 = 1 };

typedef struct { int size; int data[]; } Ints;
typedef struct { float scale; int32_t zero_point; } Quantization;
typedef struct {
    int type; float *data; Ints *dims; Quantization params; int allocation_type; size_t bytes; const void *allocation;
    const char *name; void *delegate; int buffer_handle; bool data_is_stale; bool is_variable;
    struct { int type; void *params; } quantization; void *sparsity; const Ints *dims_signature;
} Tensor;
typedef struct { Ints *inputs, *outputs, *intermediates, *temporaries; void *user_data; } Node;

typedef struct Context Context;
typedef struct Delegate Delegate;
typedef struct {
    void *(*init)(Context *, const char *, size_t);
    void (*free)(Context *, void *);
    int (*prepare)(Context *, Node *);
    int (*invoke)(Context *, Node *);
    const char *(*profiling_string)(const Context *, const Node *);
    int32_t builtin_code;
    const char *custom_name;
    int version;
    void *external;
    void *async_kernel;
    uint64_t inplace_operator;
} Registration;
struct Context {
    size_t tensors_size;
    int (*GetExecutionPlan)(Context *, Ints **);
    Tensor *tensors;
    void *impl;
    int (*ResizeTensor)(Context *, Tensor *, Ints *);
    void (*ReportError)(Context *, const char *, ...);
    int (*AddTensors)(Context *, int, int *);
    int (*GetNodeAndRegistration)(Context *, int, Node **, Registration **);
    int (*ReplaceNodeSubsetsWithDelegateKernels)(Context *, Registration, const Ints *, Delegate *);
};
struct Delegate {
    void *data;
    int (*Prepare)(Context *, Delegate *);
    void *copy_from, *copy_to, *free_handle;
    int64_t flags;
    void *opaque_builder;
    float gain;
    int most;
};
typedef struct { Delegate *delegate; Ints *nodes, *inputs, *outputs; } Parameters;
typedef struct { int a, b, sum; float *own; } Addition; /* own: the result, where nothing outside of the part reads it */
typedef struct { float gain; int count; Addition of[]; } Kernel;

static void *kernel_init(Context *context, const char *buffer, size_t length) {
    const Parameters *given = (const Parameters *)buffer;
    (void)length;
    Kernel *kernel = malloc(sizeof(Kernel) + given->nodes->size * sizeof(Addition));
    kernel->gain = given->delegate->gain;
    kernel->count = given->nodes->size;
    for (int i = 0; i < kernel->count; i++) {
        Node *node;
        Registration *registration;
        context->GetNodeAndRegistration(context, given->nodes->data[i], &node, &registration);
        Addition *made = &kernel->of[i];
        *made = (Addition){node->inputs->data[0], node->inputs->data[1], node->outputs->data[0], NULL};
        bool outside = false;
        for (int at = 0; at < given->outputs->size; at++) outside |= given->outputs->data[at] == made->sum;
        if (!outside) made->own = malloc(context->tensors[made->sum].bytes); /* the runtime gives it no memory */
    }
    return kernel;
}

static void kernel_free(Context *context, void *data) {
    (void)context;
    Kernel *kernel = data;
    for (int i = 0; i < kernel->count; i++) free(kernel->of[i].own);
    free(kernel);
}

static float *place(Context *context, const Kernel *kernel, int tensor) {
    for (int i = 0; i < kernel->count; i++)
        if (kernel->of[i].sum == tensor && kernel->of[i].own) return kernel->of[i].own;
    return context->tensors[tensor].data;
}

static int kernel_prepare(Context *context, Node *node) {
    (void)context, (void)node;
    return OK;
}

static int kernel_invoke(Context *context, Node *node) {
    const Kernel *kernel = node->user_data;
    for (int i = 0; i < kernel->count; i++) {
        const Addition *one = &kernel->of[i];
        const float *a = place(context, kernel, one->a), *b = place(context, kernel, one->b);
        float *sum = place(context, kernel, one->sum);
        for (size_t at = 0; at < context->tensors[one->sum].bytes / sizeof(float); at++)
            sum[at] = kernel->gain * (a[at] + b[at]);
    }
    return OK;
}

static int prepare(Context *context, Delegate *delegate) {
    Ints *plan;
    if (context->GetExecutionPlan(context, &plan) != OK) return ERROR;
    const int planned = plan->size;
    int *order = malloc(planned * sizeof(int)); /* the plan is the context's, and the next call may move it */
    memcpy(order, plan->data, planned * sizeof(int));
    Ints *taken = malloc(sizeof(Ints) + planned * sizeof(int));
    taken->size = 0;
    for (int i = 0; i < planned && taken->size < delegate->most; i++) {
        Node *node;
        Registration *registration;
        if (context->GetNodeAndRegistration(context, order[i], &node, &registration) != OK) continue;
        if (registration->builtin_code != ADD || node->inputs->size != 2) continue;
        const Tensor *a = &context->tensors[node->inputs->data[0]], *b = &context->tensors[node->inputs->data[1]];
        if (a->type == FLOAT32 && b->type == FLOAT32 && a->bytes == b->bytes) taken->data[taken->size++] = order[i];
    }
    Registration kernel = {kernel_init, kernel_free, kernel_prepare, kernel_invoke, NULL, 0, "TestDelegate", 1, 0, 0, 0};
    int status = context->ReplaceNodeSubsetsWithDelegateKernels(context, kernel, taken, delegate);
    free(order);
    free(taken);
    return status;
}

Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *)) {
    float gain = 1;
    int most = 1 << 30;
    for (size_t i = 0; i < count; i++) {
        if (!strcmp(keys[i], "gain")) gain = strtof(values[i], NULL);
        else if (!strcmp(keys[i], "most")) most = atoi(values[i]);
        else if (!strcmp(keys[i], "fail")) return report(values[i]), NULL;
        else return report("unknown option"), NULL;
    }
    Delegate *delegate = calloc(1, sizeof(Delegate));
    delegate->Prepare = prepare;
    delegate->gain = gain;
    delegate->most = most;
    return delegate;
}

void tflite_plugin_destroy_delegate(Delegate *delegate) { free(delegate); }
