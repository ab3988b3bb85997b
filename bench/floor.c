/* What librdkafka itself can do: `forward` with its trace headers and gated commits, in C, without any of kpipe's checks.
 *
 * floor BROKERS TOPIC TARGET RECORDS PARTITIONS    (bench/inputs.py compiles it against the library inside the Python
 * client; PARTITIONS of the topic are read)
 *
 * Declared by hand, because the wheel has no rdkafka.h; all of it is librdkafka's public, stable API.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

typedef struct rd_kafka_s rd_kafka_t;
typedef struct rd_kafka_conf_s rd_kafka_conf_t;
typedef struct rd_kafka_topic_s rd_kafka_topic_t;
typedef struct rd_kafka_queue_s rd_kafka_queue_t;
typedef struct rd_kafka_op_s rd_kafka_event_t;
typedef struct rd_kafka_headers_s rd_kafka_headers_t;
typedef struct {
        int err;
        rd_kafka_topic_t *topic;
        int32_t partition;
        void *payload;
        size_t len;
        void *key;
        size_t key_len;
        int64_t offset;
        void *opaque;
} rd_kafka_message_t;
typedef struct {
        char *topic;
        int32_t partition;
        int64_t offset;
        void *metadata;
        size_t metadata_size;
        void *opaque;
        int err;
        void *private_;
} rd_kafka_topic_partition_t;
typedef struct rd_kafka_topic_partition_list_s rd_kafka_topic_partition_list_t;

rd_kafka_conf_t *rd_kafka_conf_new(void);
int rd_kafka_conf_set(rd_kafka_conf_t *, const char *, const char *, char *, size_t);
void rd_kafka_conf_set_events(rd_kafka_conf_t *, int);
rd_kafka_t *rd_kafka_new(int, rd_kafka_conf_t *, char *, size_t);
int rd_kafka_poll_set_consumer(rd_kafka_t *);
rd_kafka_topic_t *rd_kafka_topic_new(rd_kafka_t *, const char *, void *);
int rd_kafka_metadata(rd_kafka_t *, int, rd_kafka_topic_t *, const void **, int);
char *rd_kafka_clusterid(rd_kafka_t *, int);
rd_kafka_topic_partition_list_t *rd_kafka_topic_partition_list_new(int);
rd_kafka_topic_partition_t *rd_kafka_topic_partition_list_add(rd_kafka_topic_partition_list_t *, const char *, int32_t);
int rd_kafka_assign(rd_kafka_t *, const rd_kafka_topic_partition_list_t *);
int rd_kafka_commit(rd_kafka_t *, const rd_kafka_topic_partition_list_t *, int);
rd_kafka_queue_t *rd_kafka_queue_get_consumer(rd_kafka_t *);
rd_kafka_queue_t *rd_kafka_queue_get_main(rd_kafka_t *);
ssize_t rd_kafka_consume_batch_queue(rd_kafka_queue_t *, int, rd_kafka_message_t **, size_t);
rd_kafka_event_t *rd_kafka_queue_poll(rd_kafka_queue_t *, int);
size_t rd_kafka_event_message_count(rd_kafka_event_t *);
void rd_kafka_event_destroy(rd_kafka_event_t *);
int64_t rd_kafka_message_timestamp(const rd_kafka_message_t *, int *);
int rd_kafka_message_detach_headers(rd_kafka_message_t *, rd_kafka_headers_t **);
void rd_kafka_message_destroy(rd_kafka_message_t *);
rd_kafka_headers_t *rd_kafka_headers_new(size_t);
int rd_kafka_header_add(rd_kafka_headers_t *, const char *, ssize_t, const void *, ssize_t);
int rd_kafka_producev(rd_kafka_t *, ...);

enum { PRODUCER, CONSUMER, DELIVERY = 0x1, COPY = 0x2, QUEUE_FULL = -184, BATCH = 500 };
enum { END, RKT = 2, PARTITION, VALUE, KEY, MSGFLAGS = 7, TIMESTAMP, HEADERS = 10 };

static rd_kafka_t *open_client(int type, const char *brokers, const char *const *properties) {
        char reason[512];
        rd_kafka_conf_t *conf = rd_kafka_conf_new();
        rd_kafka_conf_set(conf, "bootstrap.servers", brokers, reason, sizeof reason);
        for (; *properties; properties += 2)
                if (rd_kafka_conf_set(conf, properties[0], properties[1], reason, sizeof reason)) {
                        fprintf(stderr, "floor: %s\n", reason);
                        exit(2);
                }
        if (type == PRODUCER)
                rd_kafka_conf_set_events(conf, DELIVERY);
        return rd_kafka_new(type, conf, reason, sizeof reason);
}

static void add(rd_kafka_headers_t *headers, const char *name, const char *value) {
        rd_kafka_header_add(headers, name, -1, value, (ssize_t)strlen(value));
}

static rd_kafka_headers_t *trace(rd_kafka_message_t *message, const char *topic, const char *cluster) {
        char partition[16], offset[24];
        rd_kafka_headers_t *headers = NULL;
        if (rd_kafka_message_detach_headers(message, &headers))
                headers = rd_kafka_headers_new(5);
        snprintf(partition, sizeof partition, "%d", message->partition);
        snprintf(offset, sizeof offset, "%lld", (long long)message->offset);
        add(headers, "source_topic", topic);
        add(headers, "source_partition", partition);
        add(headers, "source_consumer_group", "floor");
        add(headers, "source_cluster", cluster);
        add(headers, "source_offset", offset);
        return headers;
}

static int64_t acknowledged(rd_kafka_queue_t *reports, int wait_ms) {
        int64_t count = 0;
        rd_kafka_event_t *event;
        while ((event = rd_kafka_queue_poll(reports, wait_ms))) {
                count += (int64_t)rd_kafka_event_message_count(event);
                rd_kafka_event_destroy(event);
                wait_ms = 0;
        }
        return count;
}

int main(int argc, char **argv) {
        static const char *const reading[] = {"group.id", "floor", "enable.auto.commit", "false",
                                              "enable.auto.offset.store", "false", "fetch.queue.backoff.ms", "10",
                                              "queued.max.messages.kbytes", "16384", NULL};
        static const char *const sending[] = {"enable.idempotence", "true", "linger.ms", "5", "partitioner",
                                              "murmur2_random", "queue.buffering.max.messages", "20000",
                                              "compression.type", "lz4", NULL};
        if (argc != 6) {
                fprintf(stderr, "floor BROKERS TOPIC TARGET RECORDS PARTITIONS\n");
                return 2;
        }
        const char *topic = argv[2];
        int64_t wanted = atoll(argv[4]), sent = 0, landed = 0, committed = 0;
        int partitions = atoi(argv[5]);
        int64_t *next = calloc((size_t)partitions, sizeof *next);
        rd_kafka_t *producer = open_client(PRODUCER, argv[1], sending);
        rd_kafka_t *consumer = open_client(CONSUMER, argv[1], reading);
        rd_kafka_poll_set_consumer(consumer);
        rd_kafka_topic_t *target = rd_kafka_topic_new(producer, argv[3], NULL);
        const void *metadata;
        for (int again = 0; again < 2; again++) /* the second answer brings the producer its id at once */
                rd_kafka_metadata(producer, 0, target, &metadata, 5000);
        const char *cluster = rd_kafka_clusterid(producer, 5000);
        rd_kafka_topic_partition_list_t *places = rd_kafka_topic_partition_list_new(partitions);
        for (int number = 0; number < partitions; number++)
                rd_kafka_topic_partition_list_add(places, topic, number)->offset = 0;
        rd_kafka_assign(consumer, places);
        rd_kafka_queue_t *records = rd_kafka_queue_get_consumer(consumer);
        rd_kafka_queue_t *reports = rd_kafka_queue_get_main(producer);
        rd_kafka_message_t *batch[BATCH];
        while (landed < wanted) {
                ssize_t count = sent < wanted ? rd_kafka_consume_batch_queue(records, 0, batch, BATCH) : 0;
                if (!count && sent < wanted)
                        count = rd_kafka_consume_batch_queue(records, 50, batch, 1);
                for (ssize_t i = 0; i < count; i++) {
                        rd_kafka_message_t *m = batch[i];
                        rd_kafka_headers_t *headers = m->err ? NULL : trace(m, topic, cluster);
                        int64_t time = rd_kafka_message_timestamp(m, NULL);
                        while (!m->err) {
                                int error = rd_kafka_producev(producer, RKT, target, PARTITION, -1, VALUE, m->payload,
                                                              m->len, KEY, m->key, m->key_len, TIMESTAMP, time,
                                                              MSGFLAGS, COPY, HEADERS, headers, END);
                                if (!error) {
                                        sent++;
                                        next[m->partition] = m->offset + 1;
                                        break;
                                }
                                if (error != QUEUE_FULL)
                                        return 1;
                                landed += acknowledged(reports, 50);
                        }
                        rd_kafka_message_destroy(m);
                }
                landed += acknowledged(reports, sent < wanted ? 0 : 20);
                if (landed == sent && landed - committed > wanted / 10) { /* a barrier, the cheapest gate there is */
                        rd_kafka_topic_partition_list_t *done = rd_kafka_topic_partition_list_new(partitions);
                        for (int number = 0; number < partitions; number++)
                                rd_kafka_topic_partition_list_add(done, topic, number)->offset = next[number];
                        rd_kafka_commit(consumer, done, 1);
                        committed = landed;
                }
        }
        _exit(0);
}
