/* Calls the C library's resolver functions and prints what each call was and gave: a line of JSON each; on stderr, what it is
 * about to look up. For a library in which no probe is yet it begins a moment after its start, as the recorder says it needs; in
 * slow VMs WAIT_MS makes that longer. */
#define _GNU_SOURCE
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void say(const char *function, const char *host, int ret, long long began)
{
	printf("{\"function\":\"%s\",\"host\":\"%s\",\"service\":null,\"ret\":%d,\"took_ns\":%lld,\"pid\":%d,\"tid\":%d,\"comm\":\"lookups\"}\n",
	       function, host, ret, now() - began, getpid(), gettid());
}

static int reentrant(const char *host, int two)
{
	struct hostent entry, *result = NULL;
	char buffer[1024];
	int error = 0;

	if (two)
		gethostbyname2_r(host, AF_INET, &entry, buffer, sizeof(buffer), &result, &error);
	else
		gethostbyname_r(host, &entry, buffer, sizeof(buffer), &result, &error);
	return result ? 0 : error;
}

int main(int argc, char **argv)
{
	const char *wait_ms = getenv("WAIT_MS");

	usleep(1000 * (wait_ms ? atoi(wait_ms) : 300));
	for (int i = 1; i < argc; i++) {
		struct addrinfo *list = NULL;
		char host[256];
		long long began;
		int ret;

#define CALL(function, label, expression)                                       \
	snprintf(host, sizeof(host), "%s." label ".ebrec.test", argv[i]);       \
	fprintf(stderr, "%s\n", host);                                          \
	began = now();                                                          \
	ret = expression;                                                       \
	say(function, host, ret, began)

		CALL("getaddrinfo", "c1", getaddrinfo(host, NULL, NULL, &list));
		CALL("gethostbyname", "c2", gethostbyname(host) ? 0 : h_errno);
		CALL("gethostbyname2", "c3", gethostbyname2(host, AF_INET) ? 0 : h_errno);
		CALL("gethostbyname_r", "c4", reentrant(host, 0));
		CALL("gethostbyname2_r", "c5", reentrant(host, 1));
	}
	return 0;
}
