/* Worker threads. A job is a counter that all threads draw items from; workers look for the next job for a moment before they sleep,
 * because a forward pass brings a hundred of them in a row. */
#include <stdatomic.h>
#include <stdlib.h>

#include "model.h"

enum { looks_before_sleep = 2000 };

struct pool {
    int64_t threads; /* besides the calling one */
    pthread_t* ids;
    pthread_mutex_t lock;
    pthread_cond_t woken, finished;
    atomic_llong round; /* of the current job; -1: end */
    pool_work work;
    void* job;
    int64_t n;
    atomic_llong next;
    int64_t busy; /* workers that have not finished the round */
};

typedef struct entrance {
    pool* workers;
    int64_t number;
} entrance;

static void draw(pool* workers, int64_t worker) {
    for (;;) {
        const int64_t item = atomic_fetch_add(&workers->next, 1);
        if (item >= workers->n) return;
        workers->work(workers->job, item, worker);
    }
}

static int64_t await_round(pool* workers, int64_t seen) {
    for (int look = 0; look < looks_before_sleep; look++) {
        if (atomic_load(&workers->round) != seen) break;
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
    pthread_mutex_lock(&workers->lock);
    while (atomic_load(&workers->round) == seen)
        pthread_cond_wait(&workers->woken, &workers->lock);
    const int64_t round = atomic_load(&workers->round);
    pthread_mutex_unlock(&workers->lock);
    return round;
}

static void* run_worker(void* argument) {
    const entrance self = *(entrance*)argument;
    free(argument);
    pool* workers = self.workers;
    for (int64_t round = 0; (round = await_round(workers, round)) >= 0;) {
        draw(workers, self.number);
        pthread_mutex_lock(&workers->lock);
        if (--workers->busy == 0) pthread_cond_signal(&workers->finished);
        pthread_mutex_unlock(&workers->lock);
    }
    return NULL;
}

pool* pool_create(int64_t threads) {
    pool* workers = calloc(1, sizeof *workers);
    if (!workers) return NULL;
    pthread_mutex_init(&workers->lock, NULL);
    pthread_cond_init(&workers->woken, NULL);
    pthread_cond_init(&workers->finished, NULL);
    workers->ids = calloc((size_t)threads + 1, sizeof *workers->ids);
    while (workers->ids && workers->threads < threads) {
        entrance* door = malloc(sizeof *door);
        if (door) *door = (entrance){workers, workers->threads + 1};
        if (!door || pthread_create(&workers->ids[workers->threads], NULL, run_worker, door)) {
            free(door);
            break;
        }
        workers->threads++;
    }
    if (!workers->ids || workers->threads < threads) {
        pool_destroy(workers);
        return NULL;
    }
    return workers;
}

void pool_destroy(pool* workers) {
    if (!workers) return;
    pthread_mutex_lock(&workers->lock);
    atomic_store(&workers->round, -1);
    pthread_cond_broadcast(&workers->woken);
    pthread_mutex_unlock(&workers->lock);
    for (int64_t i = 0; i < workers->threads; i++)
        pthread_join(workers->ids[i], NULL);
    pthread_mutex_destroy(&workers->lock);
    pthread_cond_destroy(&workers->woken);
    pthread_cond_destroy(&workers->finished);
    free(workers->ids);
    free(workers);
}

void pool_run(pool* workers, pool_work work, void* job, int64_t n) {
    if (workers->threads == 0 || n == 1) {
        for (int64_t item = 0; item < n; item++)
            work(job, item, 0);
        return;
    }
    pthread_mutex_lock(&workers->lock);
    workers->work = work, workers->job = job, workers->n = n;
    workers->busy = workers->threads;
    atomic_store(&workers->next, 0);
    atomic_fetch_add(&workers->round, 1);
    pthread_cond_broadcast(&workers->woken);
    pthread_mutex_unlock(&workers->lock);
    draw(workers, 0);
    pthread_mutex_lock(&workers->lock);
    while (workers->busy > 0)
        pthread_cond_wait(&workers->finished, &workers->lock);
    pthread_mutex_unlock(&workers->lock);
}

int64_t pool_size(const pool* workers) { return workers->threads + 1; }
