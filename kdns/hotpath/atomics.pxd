# What shared memory needs of C: stores other processes see in order, a lock that outlives its owner, clocks; and a hash.
from libc.stdint cimport uint64_t

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass

cdef extern from *:
    """
    #include <errno.h>
    #include <pthread.h>
    #include <stdint.h>
    #include <time.h>
    static inline uint64_t kdns_fold(uint64_t a, uint64_t b) {
        unsigned __int128 product = (unsigned __int128) a * b;
        return (uint64_t) product ^ (uint64_t) (product >> 64);
    }
    #define kdns_load(address) __atomic_load_n((address), __ATOMIC_ACQUIRE)
    #define kdns_peek(address) __atomic_load_n((address), __ATOMIC_RELAXED)
    #define kdns_store(address, value) __atomic_store_n((address), (value), __ATOMIC_RELEASE)
    #define kdns_or(address, value) (void) __atomic_fetch_or((address), (value), __ATOMIC_RELAXED)
    #define kdns_full_fence() __atomic_thread_fence(__ATOMIC_SEQ_CST)
    #define kdns_release_fence() __atomic_thread_fence(__ATOMIC_RELEASE)
    #define kdns_acquire_fence() __atomic_thread_fence(__ATOMIC_ACQUIRE)
    static inline int kdns_swap(uint64_t *address, uint64_t old, uint64_t value) {
        return __atomic_compare_exchange_n(address, &old, value, 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
    }
    static inline uint64_t kdns_clock_ns(clockid_t clock) {
        struct timespec now;
        clock_gettime(clock, &now);
        return (uint64_t) now.tv_sec * 1000000000u + (uint64_t) now.tv_nsec;
    }
    static inline uint64_t kdns_coarse_clock_ms(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
        return (uint64_t) now.tv_sec * 1000u + (uint64_t) now.tv_nsec / 1000000u;
    }
    static inline int kdns_lock_init(pthread_mutex_t *lock) {
        pthread_mutexattr_t kind;
        if (pthread_mutexattr_init(&kind))
            return -1;
        int failed = pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED)
            || pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST) || pthread_mutex_init(lock, &kind);
        pthread_mutexattr_destroy(&kind);
        return failed ? -1 : 0;
    }
    static inline int kdns_lock_try(pthread_mutex_t *lock) {
        int status = pthread_mutex_trylock(lock);
        if (status == EOWNERDEAD)
            status = pthread_mutex_consistent(lock);
        return status == 0;
    }
    """
    uint64_t kdns_fold(uint64_t a, uint64_t b) noexcept nogil
    uint64_t kdns_load(const uint64_t* address) noexcept nogil
    uint64_t kdns_peek(const uint64_t* address) noexcept nogil
    void kdns_store(uint64_t* address, uint64_t value) noexcept nogil
    void kdns_or(uint64_t* address, uint64_t value) noexcept nogil
    void kdns_full_fence() noexcept nogil
    void kdns_release_fence() noexcept nogil
    void kdns_acquire_fence() noexcept nogil
    bint kdns_swap(uint64_t* address, uint64_t old, uint64_t value) noexcept nogil
    uint64_t kdns_coarse_clock_ms() noexcept nogil
    uint64_t kdns_clock_ns(int clock) noexcept nogil
    int CLOCK_MONOTONIC
    int CLOCK_REALTIME
    int kdns_lock_init(pthread_mutex_t* lock) noexcept nogil
    bint kdns_lock_try(pthread_mutex_t* lock) noexcept nogil
    int pthread_mutex_unlock(pthread_mutex_t* lock) noexcept nogil
