/* The steady load of tests/calibrate: each part is a process of its own that does one thing at a fixed pace, for as long as it lives.
 *
 *   load ROLE [ARGUMENT]      run a part
 *   load set KEY VALUE        change what a running part reads anew each time: dns_ms (the resolver's delay), calls (per turn)
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STREAM_PORT 5201
#define MS 1000000LL

static volatile struct settings {
	int dns_ms;
	int calls;
} *settings;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 * MS + t.tv_nsec;
}

/* Sleeps until the next multiple of the period. Turns that took longer than one are skipped, not made up for. */
static void pace(long long *next, long long period)
{
	struct timespec t;

	*next += period;
	if (*next < now())
		*next = now() + period;
	t.tv_sec = *next / (1000 * MS);
	t.tv_nsec = *next % (1000 * MS);
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
		;
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity");
}

static void compute(int turns)
{
	for (volatile int i = 0; i < turns; i++)
		;
}

/* A journal: 4 KiB over what is there already, then fsync. */
static void journal(const char *dir)
{
	static char block[4096];
	char path[256];
	long long next = now();
	int fd;

	snprintf(path, sizeof(path), "%s/journal", dir);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	if (fd < 0)
		die(path);
	for (unsigned int i = 0;; i++) {
		memset(block, 'a' + i % 26, sizeof(block));
		if (pwrite(fd, block, sizeof(block), i % 64 * sizeof(block)) != sizeof(block) || fsync(fd))
			die("journal");
		pace(&next, 50 * MS);
	}
}

/* A client that asks 50 times a second, and a server that computes for a while; both on the second CPU. */
static void client(const char *unused)
{
	int ask[2], answer[2];
	long long next = now();
	char byte = 0;

	(void)unused;
	pin(1);
	if (pipe(ask) || pipe(answer))
		die("pipe");
	if (!fork()) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_NAME, "server");
		while (read(ask[0], &byte, 1) == 1) {
			compute(40000);
			if (write(answer[1], &byte, 1) != 1)
				break;
		}
		exit(0);
	}
	for (;;) {
		if (write(ask[1], &byte, 1) != 1 || read(answer[0], &byte, 1) != 1)
			die("client");
		pace(&next, 20 * MS);
	}
}

static void hog(const char *unused)
{
	(void)unused;
	pin(1);
	for (;;)
		compute(1000000);
}

static struct sockaddr_in address(const char *host, int port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};

	inet_pton(AF_INET, host, &to.sin_addr);
	return to;
}

/* A stream of 125 segments of 1 KiB a second: 1 Mbit/s. */
static void sender(const char *host)
{
	static char chunk[1024];
	struct sockaddr_in to = address(host, STREAM_PORT);
	long long next = now();
	int fd = -1, one = 1;

	for (int tries = 0; tries < 100; tries++) {
		fd = socket(AF_INET, SOCK_STREAM, 0);
		if (!connect(fd, (struct sockaddr *)&to, sizeof(to)))
			break;
		close(fd);
		fd = -1;
		usleep(100000);
	}
	if (fd < 0)
		die("connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	for (;;) {
		if (send(fd, chunk, sizeof(chunk), 0) != sizeof(chunk))
			die("send");
		pace(&next, 8 * MS);
	}
}

static void receiver(const char *host)
{
	static char chunk[65536];
	struct sockaddr_in at = address(host, STREAM_PORT);
	int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0), fd;

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (struct sockaddr *)&at, sizeof(at)) || listen(listener, 1))
		die("listen");
	fd = accept(listener, NULL, NULL);
	while (recv(fd, chunk, sizeof(chunk), 0) > 0)
		;
}

/* Answers each question, whatever it is, with one address, `dns_ms` after it came. */
static void resolver(const char *unused)
{
	static struct question {
		long long due;
		struct sockaddr_in from;
		ssize_t size;
		unsigned char message[512];
	} waiting[64];
	static const unsigned char record[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 192, 0, 2, 1};
	struct sockaddr_in at = address("127.0.0.1", 53);
	struct pollfd socket_in = {.fd = socket(AF_INET, SOCK_DGRAM, 0), .events = POLLIN};
	unsigned int in = 0, out = 0;

	(void)unused;
	if (bind(socket_in.fd, (struct sockaddr *)&at, sizeof(at)))
		die("bind");
	for (;;) {
		struct question *q = &waiting[out % 64];
		struct timespec left = {0}, *timeout = NULL;

		if (in != out) {
			long long ns = q->due - now();

			if (ns <= 0) {
				q->message[2] |= 0x80;
				q->message[7] = 1;
				memcpy(q->message + q->size, record, sizeof(record));
				sendto(socket_in.fd, q->message, q->size + sizeof(record), 0, (struct sockaddr *)&q->from, sizeof(q->from));
				out++;
				continue;
			}
			left.tv_sec = ns / (1000 * MS);
			left.tv_nsec = ns % (1000 * MS);
			timeout = &left;
		}
		if (ppoll(&socket_in, 1, timeout, NULL) == 1 && in - out < 64) {
			socklen_t size = sizeof(q->from);

			q = &waiting[in % 64];
			q->size = recvfrom(socket_in.fd, q->message, sizeof(q->message) - sizeof(record), 0, (struct sockaddr *)&q->from, &size);
			q->due = now() + settings->dns_ms * MS;
			if (q->size >= 12)
				in++;
		}
	}
}

/* Four threads, ten lookups a second together. */
static void *look_up(void *nth)
{
	static const char *const names[] = {"api.ebrec.test.", "cache.ebrec.test.", "db.ebrec.test.", "queue.ebrec.test."};
	struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *list;
	long long next = now() + (long)nth * 100 * MS;

	for (;;) {
		pace(&next, 400 * MS);
		if (!getaddrinfo(names[(long)nth], NULL, &hints, &list))
			freeaddrinfo(list);
	}
	return NULL;
}

static void lookup(const char *unused)
{
	pthread_t thread;

	(void)unused;
	for (long i = 1; i < 4; i++)
		pthread_create(&thread, NULL, look_up, (void *)i);
	look_up(NULL);
}

/* One system call, `calls` times in each of 50 turns a second. */
static void calls(const char *unused)
{
	int fd = open("/dev/zero", O_RDONLY);
	long long next = now();
	char byte;

	(void)unused;
	for (;;) {
		for (int i = settings->calls; i > 0; i--)
			if (read(fd, &byte, 1) != 1)
				die("read");
		pace(&next, 20 * MS);
	}
}

/* Starts a program twice a second. */
static void spawner(const char *program)
{
	char *argv[] = {(char *)program, "0", NULL}, *envp[] = {NULL};
	long long next = now();
	pid_t child;

	for (;;) {
		child = vfork(); /* posix_spawn would make a hundred system calls of it. */
		if (!child) {
			execve(program, argv, envp);
			_exit(127);
		}
		if (waitpid(child, NULL, 0) != child)
			die(program);
		pace(&next, 500 * MS);
	}
}

/* Opens, reads and closes a file that is in the page cache, ten times a second. */
static void reader(const char *path)
{
	static char block[16384];
	long long next = now();

	for (;;) {
		int fd = open(path, O_RDONLY);

		while (read(fd, block, sizeof(block)) > 0)
			;
		close(fd);
		pace(&next, 100 * MS);
	}
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(const char *argument);
	} roles[] = {
		{"journal", journal}, {"client", client}, {"hog", hog}, {"sender", sender}, {"receiver", receiver},
		{"resolver", resolver}, {"lookup", lookup}, {"calls", calls}, {"spawner", spawner}, {"reader", reader},
	};
	int fd = open("/tmp/settings", O_RDWR | O_CREAT, 0600);

	if (fd < 0 || ftruncate(fd, sizeof(*settings)))
		die("/tmp/settings");
	settings = mmap(NULL, sizeof(*settings), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (settings == MAP_FAILED)
		die("mmap");
	if (argc == 4 && !strcmp(argv[1], "set")) {
		*(!strcmp(argv[2], "dns_ms") ? &settings->dns_ms : &settings->calls) = atoi(argv[3]);
		return 0;
	}
	for (size_t i = 0; argc > 1 && i < sizeof(roles) / sizeof(*roles); i++)
		if (!strcmp(argv[1], roles[i].name)) {
			prctl(PR_SET_NAME, roles[i].name);
			roles[i].run(argc > 2 ? argv[2] : "");
			return 0;
		}
	fprintf(stderr, "load: no such part\n");
	return 2;
}
