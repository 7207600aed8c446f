/* The two files, the tables' pages on disk, and what a start finds there.
 *
 * A start reads the tables but the index, about 1 MiB, and changes one page; the index is read
 * by the first tick, or a page of it when a look-up comes first.  After a crash it is read at once,
 * and what was appended later.  Nothing is synced: what the kernel had not written when the machine
 * stopped is found wrong by its checksum.
 *
 * Who may use the files: every process locks one byte of "index", the same byte for all that
 * share a zone, and goes on only if nobody locks another. */
#include "page_cache.h"
#include "store_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* The largest piece of the page cache where pages have 4 KiB: see file_can_be_renewed(). */
#define SEGMENT_MIN (UINT64_C(2) << 20)
#define SEGMENT_MAX (UINT64_C(64) << 20)
#define SEGMENTS_WANTED 64
#define RUN_SHARE 16 /* of a segment: what has no room at its end is lost */
#define OBJECT_BYTES_TYPICAL 8192
#define PAGE_ENTRIES (PAGE_WORDS * 3 / 4) /* what a page is planned for */
#define INDEX_PAGES_MIN 16
#define REST_MS 10000
#define SAY_MS 60000
#define LOAD_PAGES 64 /* at once */
#define WRITE_TRIES 8 /* of a page that changes all the time; the tick writes it again */

void
layout_of(const struct store_options *options, struct layout *l)
{
    uint64_t objects = options->max_objects;

    *l = (struct layout){.segment_size = SEGMENT_MIN};
    while (l->segment_size < SEGMENT_MAX &&
           l->segment_size * SEGMENTS_WANTED < options->disk_size)
        l->segment_size *= 2;
    l->run = (unsigned)(l->segment_size / RUN_SHARE / STORE_INLINE);
    l->run = l->run < 1 ? 1 : l->run > SEGMENT_RUN ? SEGMENT_RUN : l->run;
    if (options->path != NULL) {
        if (objects == 0)
            objects = options->disk_size / OBJECT_BYTES_TYPICAL;
        l->n_segments = options->disk_size / l->segment_size;
        l->index_pages = (objects + PAGE_ENTRIES - 1) / PAGE_ENTRIES;
        if (l->index_pages < INDEX_PAGES_MIN)
            l->index_pages = INDEX_PAGES_MIN;
    }
    l->segment_pages = (l->n_segments + SEGMENTS_A_PAGE - 1) / SEGMENTS_A_PAGE;
    l->cells_at = 1 + l->segment_pages;
    l->prefixes_at = l->cells_at + CELL_PAGES;
    l->index_at = l->prefixes_at + PREFIX_PAGES;
    l->n_pages = l->index_at + l->index_pages;
}

/* ---- trouble ---- */

/* Whether the log should hear of it again. */
static int
may_say(const struct store *s, _Atomic(int64_t) *said_ms)
{
    int64_t now = atomic_load(&s->now_ms), said = atomic_load(said_ms);

    return (said == INT64_MIN || now - said >= SAY_MS) &&
           atomic_compare_exchange_strong(said_ms, &said, now);
}

void
disk_failed(struct store *s, const char *what, int rests)
{
    int error = errno;

    count(&s->head->n_disk_errors, 1);
    if (rests) {
        atomic_store(&s->rests_until_ms, atomic_load(&s->now_ms) + REST_MS);
        atomic_store(&s->disk, DISK_RESTS);
    }
    if (may_say(s, &s->failure_said_ms))
        sl_log(SL_ERROR, "CACHEDISK0101", "%s: %s: %s; %s", s->path, what, strerror(error),
               rests ? "what comes now is not stored on disk, which is tried again every 10 s"
                     : "what was asked for is fetched again");
}

void
disk_is_full(struct store *s)
{
    if (may_say(s, &s->full_said_ms))
        sl_log(SL_WARN, "CACHEDISK0107",
               "%s: the disk has no room for all of the cache's size; newer objects take the "
               "place of older ones",
               s->path);
}

void
disk_is_damaged(struct store *s, const char *what)
{
    count(&s->head->n_bad_records, 1);
    if (may_say(s, &s->damage_said_ms))
        sl_log(SL_WARN, "CACHEDISK0108",
               "%s: %s is not what was written; what it was for is fetched again", s->path, what);
}

int
disk_read(struct store *s, void *to, size_t n, uint64_t offset)
{
    char *at = to;

    while (n > 0) {
        ssize_t got = pread(s->fd_objects, at, n, (off_t)offset);

        if (got < 0 && errno == EINTR)
            continue;
        if (got == 0)
            errno = EIO;
        if (got <= 0)
            return -1;
        at += got;
        offset += (uint64_t)got;
        n -= (size_t)got;
    }
    return 0;
}

/* What the system's page cache has of these bytes from the first on, or <= 0. */
ssize_t
disk_read_now(struct store *s, void *to, size_t n, uint64_t offset)
{
    struct iovec iov = {to, n};

    return preadv2(s->fd_objects, &iov, 1, (off_t)offset, RWF_NOWAIT);
}

/* Makes sure that these bytes have room on the disk: 0, or -1 with errno.  A file system that
 * cannot tell has no objection. */
int
file_room(int fd, uint64_t from, uint64_t n)
{
    if (fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)n) == 0)
        return 0;
    return errno == ENOSPC || errno == EDQUOT || errno == EIO || errno == EROFS ? -1 : 0;
}

/* What sendfile gave a socket are the pages of the file themselves, until the client has taken
 * them, long after all pins are gone: they leave the file before other bytes come here. */
int
file_renew(int fd, uint64_t from, uint64_t n)
{
    if (fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)n) == 0)
        return 0;
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)n) != 0 &&
        errno != EOPNOTSUPP)
        return -1;
    return file_room(fd, from, n);
}

/* What the page cache has in one piece at most: as much as a page of page tables leads to. */
static uint64_t
piece_max(void)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

    return page / sizeof(uint64_t) * page;
}

/* Whether pages can leave the file: asked of what is behind its end, where nothing is.  A piece that is
 * another segment's, too, would not leave but be zeroed, for sockets that have it as well. */
static int
file_can_be_renewed(const struct store *s)
{
    uint64_t size = s->layout.n_segments * s->layout.segment_size;

    return s->layout.segment_size >= piece_max() &&
           fallocate(s->fd_objects, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)size,
                     SEGMENT_UNIT) == 0;
}

/* ---- pages ---- */

/* 0, or -1; a page beyond the end of the file is zeroes. */
static int
images_read(struct store *s, struct page_image *images, uint64_t n, uint64_t page)
{
    size_t size = n * sizeof *images, have = 0;

    while (have < size) {
        ssize_t got = pread(s->fd_index, (char *)images + have, size - have,
                            (off_t)(page * PAGE_SIZE_DISK + have));

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        have += (size_t)got;
    }
    memset((char *)images + have, 0, size - have);
    return 0;
}

static int
image_write(struct store *s, const struct page_image *image, uint64_t page)
{
    ssize_t put = pwrite(s->fd_index, image, sizeof *image, (off_t)(page * PAGE_SIZE_DISK));

    if (put >= 0 && put < (ssize_t)sizeof *image)
        errno = ENOSPC;
    return put == (ssize_t)sizeof *image ? 0 : -1;
}

/* Two may write a page at once, and the one that looked at it first may write last.  So each
 * writes it again when the page has changed since it looked. */
int
disk_write_page(struct store *s, uint64_t page)
{
    _Atomic(uint64_t) *state = &s->pages[page].state;
    struct page_image image;
    uint64_t seen;
    int tries = 0, rc;

    do {
        seen = atomic_fetch_and(state, ~(uint64_t)PAGE_DIRTY);
        page_encode(&image, &s->pages[page], page, store_id(s), purges_now(&s->purges));
        rc = image_write(s, &image, page);
    } while (rc == 0 && atomic_load(state) / PAGE_CHANGE != seen / PAGE_CHANGE &&
             ++tries < WRITE_TRIES);
    if (rc == 0)
        return 0;
    page_is_changed(&s->pages[page]);
    disk_failed(s, "cannot write the index", 1);
    return -1;
}

static void
image_take(struct store *s, const struct page_image *image, uint64_t page)
{
    enum page_found found = page_decode(image, page, store_id(s));

    if (found == PAGE_BAD)
        disk_is_damaged(s, "a page of the index");
    count(&s->head->n_objects, page_load(&s->pages[page], found == PAGE_OK ? image : NULL));
}

void
disk_load_index_page(struct store *s, uint64_t index_page)
{
    uint64_t page = s->layout.index_at + index_page;
    struct page_image image;

    if (page_is_loaded(&s->pages[page]))
        return;
    if (images_read(s, &image, 1, page) != 0) {
        memset(&image, 0, sizeof image);
        disk_failed(s, "cannot read the index", 0);
    }
    image_take(s, &image, page);
}

void
disk_load_index(struct store *s)
{
    uint64_t at = atomic_load(&s->head->n_loaded), i, n;
    struct page_image *images;

    if (at == s->layout.index_pages)
        return;
    images = calloc(LOAD_PAGES, sizeof *images);
    for (; images != NULL && at < s->layout.index_pages; at += n) {
        n = s->layout.index_pages - at < LOAD_PAGES ? s->layout.index_pages - at : LOAD_PAGES;
        if (images_read(s, images, n, s->layout.index_at + at) != 0) {
            disk_failed(s, "cannot read the index", 0);
            break;
        }
        for (i = 0; i < n; i++)
            if (!page_is_loaded(&s->pages[s->layout.index_at + at + i]))
                image_take(s, &images[i], s->layout.index_at + at + i);
        atomic_store(&s->head->n_loaded, at + n);
    }
    free(images);
}

/* Copies what changed.  How far segments are indexed is what was appended before the copy
 * began, and stands on disk after it. */
void
disk_copy_tables(struct store *s)
{
    struct {
        uint64_t word, fill;
    } *seen = calloc(s->layout.n_segments, sizeof *seen);
    uint64_t i, page;

    if (seen == NULL)
        return;
    for (i = 0; i < s->layout.n_segments; i++) {
        seen[i].word = segment_word(s, i);
        seen[i].fill = atomic_load(segment_fill(s, i));
    }
    for (page = s->layout.n_pages; page-- > s->layout.cells_at && disk_is_on(s);)
        if (atomic_load(&s->pages[page].state) & PAGE_DIRTY)
            disk_write_page(s, page);
    for (i = 0; i < s->layout.n_segments && disk_is_on(s); i++) {
        _Atomic(uint64_t) *words = segment_words(s, i);

        if (atomic_load(&words[2]) != seen[i].fill && word_state(seen[i].word) != SEGMENT_REPLAY &&
            word_state(seen[i].word) != SEGMENT_RECLAIM &&
            word_seq(segment_word(s, i)) == word_seq(seen[i].word)) {
            atomic_store(&words[2], seen[i].fill);
            page_is_changed(segment_page(s, i));
        }
    }
    for (page = s->layout.cells_at; page-- > 0 && disk_is_on(s);)
        if (atomic_load(&s->pages[page].state) & PAGE_DIRTY)
            disk_write_page(s, page);
    free(seen);
}

/* ---- who uses the files ---- */

static int
lock_test(int fd, off_t from, off_t n)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = from, .l_len = n};

    return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_UNLCK;
}

/* 1: the files are this group's.  Two that try at once may both be refused, never both let in:
 * each locks before it looks. */
static int
files_take(struct store *s)
{
    off_t byte = (off_t)(atomic_load(&s->head->group) >> 2);
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

    if (fcntl(s->fd_index, F_OFD_SETLK, &lock) == 0 &&
        (byte == 0 || lock_test(s->fd_index, 0, byte)) && lock_test(s->fd_index, byte + 1, 0))
        return 1;
    lock.l_type = F_UNLCK;
    fcntl(s->fd_index, F_OFD_SETLK, &lock);
    return 0;
}

/* ---- a start ---- */

/* 1: the first page is that of a store of this shape. */
static int
super_read(struct store *s)
{
    struct page_image image;
    unsigned i;

    if (images_read(s, &image, 1, 0) != 0 || page_decode(&image, 0, image.store_id) != PAGE_OK ||
        image.store_id == 0 || image.words[SUPER_STORE_ID] != image.store_id ||
        image.words[SUPER_VERSION] != STORE_FILES_VERSION ||
        image.words[SUPER_DISK_SIZE] != s->layout.n_segments * s->layout.segment_size ||
        image.words[SUPER_SEGMENT_SIZE] != s->layout.segment_size ||
        image.words[SUPER_INDEX_PAGES] != s->layout.index_pages)
        return 0;
    for (i = 0; i < PAGE_WORDS; i++)
        atomic_store(super_word(s, i), image.words[i]);
    return 1;
}

/* A new store: what the files had belongs to none any more, because its id is another.  That is
 * drawn when there is room: what is in memory is found by the one before, and a full disk is tried
 * again and again. */
static int
files_begin(struct store *s)
{
    uint64_t id = 0, page;

    if (ftruncate(s->fd_index, 0) != 0 ||
        file_room(s->fd_index, 0, s->layout.n_pages * PAGE_SIZE_DISK) != 0)
        return -1;
    while (id == 0)
        sl_random_bytes(&id, sizeof id);
    atomic_store(super_word(s, SUPER_VERSION), STORE_FILES_VERSION);
    atomic_store(super_word(s, SUPER_DISK_SIZE), s->layout.n_segments * s->layout.segment_size);
    atomic_store(super_word(s, SUPER_SEGMENT_SIZE), s->layout.segment_size);
    atomic_store(super_word(s, SUPER_INDEX_PAGES), s->layout.index_pages);
    atomic_store(super_word(s, SUPER_STARTS), 0);
    atomic_store(super_word(s, SUPER_NEXT_SEQ), 1);
    atomic_store(super_word(s, SUPER_STORE_ID), id);
    for (page = 1; page < s->layout.index_at; page++)
        if (disk_write_page(s, page) != 0)
            return -1;
    return 0;
}

static void
words_take(struct store *s, const struct page_image *image, uint64_t page)
{
    unsigned i;

    for (i = 0; i < PAGE_WORDS; i++)
        atomic_store(&s->pages[page].words[i], image->words[i]);
}

static int
is_within_segment(const struct store *s, uint64_t fill)
{
    return fill <= s->layout.segment_size && fill % SEGMENT_UNIT == 0;
}

/* Which segments have to be read, all of them or from where the index on disk ends.  Page or
 * not, what a segment has is believed to its records alone. */
static void
segments_take(struct store *s)
{
    uint64_t i, next = atomic_load(super_word(s, SUPER_NEXT_SEQ));

    for (i = 0; i < s->layout.n_segments; i++) {
        _Atomic(uint64_t) *words = segment_words(s, i);
        uint64_t word = atomic_load(&words[0]), fill = atomic_load(&words[1]);
        enum segment_state state = word_state(word);

        if (word_seq(word) >= next)
            next = word_seq(word) + 1;
        if (state > SEGMENT_REPLAY)
            state = SEGMENT_FREE;
        if (!is_within_segment(s, fill) || !is_within_segment(s, atomic_load(&words[2]))) {
            atomic_store(&words[1], 0);
            atomic_store(&words[2], 0);
            state = SEGMENT_REPLAY;
        }
        if (state != SEGMENT_FREE && (state != SEGMENT_FULL || atomic_load(&words[2]) < fill))
            state = SEGMENT_REPLAY;
        atomic_store(&words[0], (word & ~UINT64_C(0xffff)) | state); /* nobody's */
        atomic_store(segment_given(s, i), 1); /* sockets may have more than their processes' lives */
    }
    atomic_store(super_word(s, SUPER_NEXT_SEQ), next);
}

/* Everything but the index. */
static int
tables_read(struct store *s)
{
    uint64_t n = s->layout.index_at, page;
    struct page_image *images = calloc(n, sizeof *images);
    int rc = images != NULL ? images_read(s, images, n, 0) : -1;

    for (page = 1; rc == 0 && page < n; page++)
        if (page_decode(&images[page], page, store_id(s)) == PAGE_OK)
            words_take(s, &images[page], page);
        else {
            count(&s->head->n_bad_records, 1);
            sl_log(SL_WARN, "CACHEDISK0102",
                   "%s: page %llu of the index is damaged; what it knew is taken to be purged",
                   s->path, (unsigned long long)page);
            if (page >= s->layout.prefixes_at)
                purges_lost_all(&s->purges);
            else if (page >= s->layout.cells_at)
                purges_lost_cells(&s->purges, (unsigned)(page - s->layout.cells_at));
        }
    free(images);
    return rc;
}

static int
files_read(struct store *s)
{
    uint64_t starts;
    int is_ours = super_read(s);

    if (!is_ours && files_begin(s) != 0)
        return -1;
    if (!is_ours)
        sl_log(SL_NOTICE, "CACHEDISK0103",
               "%s: begins empty: there is nothing of this size and version", s->path);
    starts = atomic_fetch_add(super_word(s, SUPER_STARTS), 1) + 1;
    atomic_store(super_word(s, SUPER_CLOCK), starts << 32 | 1);
    atomic_store(super_word(s, SUPER_ORDER), starts << 32);
    if (is_ours && tables_read(s) != 0)
        return -1;
    segments_take(s);
    if (ftruncate(s->fd_objects, (off_t)(s->layout.n_segments * s->layout.segment_size)) != 0)
        return -1;
    return disk_write_page(s, 0);
}

/* Whether the files are as this group of processes left them: another server may have had them
 * while no process of the group did. */
static int
files_are_as_left(struct store *s)
{
    struct page_image image;

    return sl_places_others() != 0 ||
           (images_read(s, &image, 1, 0) == 0 &&
            page_decode(&image, 0, store_id(s)) == PAGE_OK &&
            image.words[SUPER_STARTS] == atomic_load(super_word(s, SUPER_STARTS)));
}

/* Nothing that the zone knows is true any more; nobody else looks at it. */
static void
tables_forget(struct store *s)
{
    uint64_t page;
    unsigned i;

    atomic_store(&s->head->is_ready, 0);
    atomic_store(&s->head->n_loaded, 0);
    atomic_store(&s->head->n_objects, 0);
    for (page = 0; page < s->layout.n_pages; page++) {
        atomic_store(&s->pages[page].state, 0);
        for (i = page == 0 ? SUPER_STORE_ID + 1 : 0; i < PAGE_WORDS; i++)
            atomic_store(&s->pages[page].words[i], 0);
    }
}

/* Not before what was appended last is known: the index on disk leads to what was replaced, forgotten
 * or purged by its key since. */
static void
disk_goes_on(struct store *s)
{
    segments_replay(s);
    atomic_store(&s->disk, DISK_ON);
}

void
disk_start(struct store *s)
{
    uint64_t id = store_id(s);

    if (atomic_load(&s->head->is_ready) && !files_are_as_left(s))
        tables_forget(s);
    if (atomic_load(&s->head->is_ready)) {
        segments_adopt(s, 1);
        disk_goes_on(s);
        return;
    }
    if (files_read(s) != 0) {
        disk_failed(s, "cannot be used", 1);
        return;
    }
    /* hashes have another seed from now on: what came before is not found again, and must not
     * escape a purge either */
    if (id != 0 && id != store_id(s))
        purges_lost_all(&s->purges);
    atomic_store(&s->head->is_ready, 1);
    disk_goes_on(s);
}

static int
file_open(const char *folder, const char *name)
{
    char path[4096];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    return open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
}

void
disk_open(struct store *s)
{
    s->fd_index = file_open(s->path, "index");
    s->fd_objects = s->fd_index >= 0 ? file_open(s->path, "objects") : -1;
    if (s->fd_objects < 0) {
        disk_failed(s, "the folder cannot be used, objects are kept in memory alone", 0);
        return;
    }
    s->gives_files = file_can_be_renewed(s);
    s->counts_pages = page_cache_counts(s->fd_objects);
    if (!files_take(s)) {
        atomic_store(&s->disk, DISK_WAITS);
        sl_log(SL_WARN, "CACHEDISK0104",
               "%s is in use by another server, or by a generation with another size; objects "
               "are kept in memory alone until that ends",
               s->path);
        return;
    }
    disk_start(s);
}

/* Of the tick: files that others had may be free now. */
void
disk_try_again(struct store *s)
{
    if (atomic_load(&s->disk) == DISK_WAITS && files_take(s)) {
        sl_log(SL_NOTICE, "CACHEDISK0105", "%s is free now", s->path);
        disk_start(s);
    }
    if (atomic_load(&s->disk) == DISK_RESTS &&
        atomic_load(&s->now_ms) >= atomic_load(&s->rests_until_ms)) {
        if (atomic_load(&s->head->is_ready))
            atomic_store(&s->disk, DISK_ON);
        else
            disk_start(s);
    }
}

void
disk_close(struct store *s)
{
    if (s->fd_objects >= 0)
        close(s->fd_objects);
    if (s->fd_index >= 0)
        close(s->fd_index);
    s->fd_objects = s->fd_index = -1;
}
