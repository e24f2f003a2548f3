/* A libnvidia-ml.so.1 that reads its GPUs from a file at each call: the only thing that the GPU tests fake.
 *
 * /run/fake-nvml/state, a line each:
 *   init CODE                                   nvmlInit answers this error
 *   driver VERSION / library VERSION
 *   gpu UUID MINOR TOTAL_MIB OTHER_MIB NAME     OTHER_MIB: used by no process
 *   split UUID                                  MIG mode is on
 *   part GPU_UUID UUID INSTANCE COMPUTE TOTAL_MIB NAME
 *   proc UUID PID MIB                           holds memory while the process lives (a zombie does not)
 *   keep UUID PID MIB                           holds it for ever
 *   lost UUID                                   every question about it gets "GPU is lost"
 *   xid SERIAL UUID NUMBER                      an event, for those who wait and have not seen SERIAL
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, SMALL = 7, TIMEOUT = 10, LOST = 15 };
#define MAX 32
#define PATH "/run/fake-nvml/state"
typedef unsigned long long ull;
typedef struct { char uuid[64], name[96], parent[64]; unsigned minor, instance, compute; ull total, other; int split, lost, part; } Dev;
typedef struct { char uuid[64]; unsigned pid; ull used; int keep; } Proc;
typedef struct { ull total, free, used; } Memory;
typedef struct { unsigned pid; ull used; unsigned gi, ci; } ProcessInfo;
typedef struct { void *device; ull type, data; unsigned gi, ci; } EventData;
typedef struct { char uuid[64]; } Handle;

static __thread Dev devs[MAX];
static __thread Proc procs[MAX];
static __thread int ndevs, nprocs, init_code;
static __thread char driver[64], library[64];
static Handle handles[MAX];
static int nhandles;

static int alive(unsigned pid) {
    char path[64], state = 0;
    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f) return 0;
    if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1) state = 'Z';
    fclose(f);
    return state != 'Z' && state != 'X';
}

static Dev *find(const char *uuid) {
    for (int i = 0; i < ndevs; i++) if (!strcmp(devs[i].uuid, uuid)) return &devs[i];
    return 0;
}

static void load(void) {
    char line[512], a[96], b[96];
    ndevs = nprocs = init_code = 0;
    strcpy(driver, "580.95.05"); strcpy(library, "13.580.95.05");
    FILE *f = fopen(PATH, "r");
    if (!f) { init_code = 9; return; }
    while (fgets(line, sizeof line, f)) {
        Dev d = {0}; Proc p = {0};
        line[strcspn(line, "\n")] = 0;
        if (sscanf(line, "gpu %63s %u %llu %llu %95[^\n]", d.uuid, &d.minor, &d.total, &d.other, d.name) == 5 && ndevs < MAX)
            devs[ndevs++] = d;
        else if (sscanf(line, "part %63s %63s %u %u %llu %95[^\n]", d.parent, d.uuid, &d.instance, &d.compute, &d.total, d.name) == 6 && ndevs < MAX)
            d.part = 1, devs[ndevs++] = d;
        else if (sscanf(line, "proc %63s %u %llu", p.uuid, &p.pid, &p.used) == 3 && nprocs < MAX) procs[nprocs++] = p;
        else if (sscanf(line, "keep %63s %u %llu", p.uuid, &p.pid, &p.used) == 3 && nprocs < MAX) p.keep = 1, procs[nprocs++] = p;
        else if (sscanf(line, "split %63s", a) == 1) { Dev *g = find(a); if (g) g->split = 1; }
        else if (sscanf(line, "lost %63s", a) == 1) { Dev *g = find(a); if (g) g->lost = 1; }
        else if (sscanf(line, "init %d", &init_code) == 1) continue;
        else if (sscanf(line, "driver %63s", b) == 1) strcpy(driver, b);
        else if (sscanf(line, "library %63s", b) == 1) strcpy(library, b);
    }
    fclose(f);
}

static void *handle_of(const char *uuid) {
    for (int i = 0; i < nhandles; i++) if (!strcmp(handles[i].uuid, uuid)) return &handles[i];
    if (nhandles == MAX) return 0;
    strcpy(handles[nhandles].uuid, uuid);
    return &handles[nhandles++];
}

static int dev_of(void *h, Dev **out) {
    load();
    *out = h ? find(((Handle *)h)->uuid) : 0;
    if (!*out) return INVALID;
    Dev *gpu = (*out)->part ? find((*out)->parent) : *out;
    return (*out)->lost || (gpu && gpu->lost) ? LOST : OK;
}

static int put(char *out, unsigned room, const char *text) {
    if (strlen(text) + 1 > room) return SMALL;
    strcpy(out, text);
    return OK;
}

static ull used(Dev *d) {
    ull sum = d->other;
    for (int i = 0; i < nprocs; i++)
        if (!strcmp(procs[i].uuid, d->uuid) && (procs[i].keep || alive(procs[i].pid))) sum += procs[i].used;
    return sum << 20;
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; load(); return init_code; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { (void)code; return "fake NVML error"; }
int nvmlSystemGetDriverVersion(char *out, unsigned room) { load(); return put(out, room, driver); }
int nvmlSystemGetNVMLVersion(char *out, unsigned room) { load(); return put(out, room, library); }
int nvmlSystemGetCudaDriverVersion(int *version) { *version = 13000; return OK; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 13000; return OK; }

int nvmlDeviceGetCount_v2(unsigned *count) {
    load();
    *count = 0;
    for (int i = 0; i < ndevs; i++) *count += !devs[i].part;
    return OK;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **out) {
    load();
    for (int i = 0; i < ndevs; i++)
        if (!devs[i].part && !index--) { *out = handle_of(devs[i].uuid); return devs[i].lost ? LOST : OK; }
    return INVALID;
}
int nvmlDeviceGetUUID(void *h, char *out, unsigned room) { return h ? put(out, room, ((Handle *)h)->uuid) : INVALID; }
int nvmlDeviceGetName(void *h, char *out, unsigned room) { Dev *d; int r = dev_of(h, &d); return r ? r : put(out, room, d->name); }
int nvmlDeviceGetMinorNumber(void *h, unsigned *out) { Dev *d; int r = dev_of(h, &d); if (!r) *out = d->minor; return r; }
int nvmlDeviceGetMemoryInfo(void *h, Memory *out) {
    Dev *d; int r = dev_of(h, &d);
    if (r) return r;
    out->total = d->total << 20; out->used = used(d); out->free = out->total > out->used ? out->total - out->used : 0;
    return OK;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *h, unsigned *count, ProcessInfo *out) {
    Dev *d; int r = dev_of(h, &d);
    unsigned room = *count, have = 0;
    if (r) return r;
    for (int i = 0; i < nprocs; i++) {
        if (strcmp(procs[i].uuid, d->uuid) || !(procs[i].keep || alive(procs[i].pid))) continue;
        if (have < room && out) { out[have].pid = procs[i].pid; out[have].used = procs[i].used << 20; out[have].gi = out[have].ci = 0xFFFFFFFFu; }
        have++;
    }
    *count = have;
    return have > room ? SMALL : OK;
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *h, unsigned *count, ProcessInfo *out) {
    Dev *d; int r = dev_of(h, &d);
    (void)out; *count = 0;
    return r;
}
int nvmlDeviceGetMigMode(void *h, unsigned *current, unsigned *pending) {
    Dev *d; int r = dev_of(h, &d);
    if (!r) *current = *pending = d->split;
    return r;
}
int nvmlDeviceGetMaxMigDeviceCount(void *h, unsigned *count) { (void)h; *count = 7; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *h, unsigned index, void **out) {
    load();
    for (int i = 0; i < ndevs; i++)
        if (devs[i].part && !strcmp(devs[i].parent, ((Handle *)h)->uuid) && !index--) { *out = handle_of(devs[i].uuid); return OK; }
    return NOT_FOUND;
}
int nvmlDeviceGetGpuInstanceId(void *h, unsigned *out) { Dev *d; int r = dev_of(h, &d); if (!r) *out = d->instance; return r; }
int nvmlDeviceGetComputeInstanceId(void *h, unsigned *out) { Dev *d; int r = dev_of(h, &d); if (!r) *out = d->compute; return r; }

int nvmlEventSetCreate(void **out) { *out = calloc(1, sizeof(long)); return *out ? OK : 999; }
int nvmlEventSetFree(void *set) { free(set); return OK; }
int nvmlDeviceRegisterEvents(void *h, ull types, void *set) { Dev *d; (void)types; (void)set; return dev_of(h, &d); }
int nvmlEventSetWait_v2(void *set, EventData *out, unsigned timeout_ms) {
    long *seen = set;
    for (unsigned waited = 0; waited < timeout_ms; waited += 50) {
        char line[512], uuid[64]; long serial; ull number;
        FILE *f = fopen(PATH, "r");
        while (f && fgets(line, sizeof line, f))
            if (sscanf(line, "xid %ld %63s %llu", &serial, uuid, &number) == 3 && serial > *seen) {
                fclose(f);
                *seen = serial;
                memset(out, 0, sizeof *out);
                out->device = handle_of(uuid); out->type = 8; out->data = number;
                return OK;
            }
        if (f) fclose(f);
        usleep(50000);
    }
    return TIMEOUT;
}
