"""Questions with and without an answer in the manual pages for programmers: the gate's second corpus.

They were written down before the gate had seen any of them, and none of its figures was chosen by them.
"""

from __future__ import annotations

from typing import Final

ABOUT_PAGES: Final = tuple(
    """
how do I open a file without following symbolic links
what does fork return in the child process
how can I wait for a child to change state without blocking
what is the difference between edge-triggered and level-triggered epoll
how do I map a file into memory with mmap
which signals cannot be caught or ignored
how do I set an alternate signal stack
what happens when a process writes to a pipe with no readers
how large is the buffer of a pipe
how do I pass a file descriptor over a unix domain socket
what does the socket option TCP_NODELAY do
how do I join a multicast group
how can I bind a socket to a privileged port without being root
what are ambient capabilities
how do I create a new network namespace
how are user ids mapped in a user namespace
how do cgroups limit the memory of a process
how do I watch a directory for changes with inotify
what is the real-time scheduling policy SCHED_FIFO
how do I pin a thread to one cpu
how do I get the resource usage of my children
how can I raise the limit of open file descriptors
what is written into a core dump file and how is it named
which fields are in /proc/pid/stat
how do I read the memory maps of a process
how does the dynamic linker search for shared libraries
what does LD_PRELOAD do
how do I load a plugin at run time with dlopen
what does the elf header contain
how are names resolved according to nsswitch.conf
how do I set the name server timeout in resolv.conf
what is the format of the services file
how does getaddrinfo sort its results
how do I convert a string to a long and detect overflow
which conversion specifiers does printf have for size_t
how do I parse command line options with getopt_long
how do I convert text from one character set to another with iconv
how does utf-8 encode code points
which character has the octal code 101 in ascii
what does setlocale do with an empty string
how do I format the date and time with strftime
how do I get a monotonic clock
how do I create a timer that signals expiry by a file descriptor
how do I sort an array with qsort
how do I search a binary tree with tsearch
how do I match a file name against a pattern with wildcards
what is the syntax of POSIX regular expressions
how do I compile and execute a regex in C
how do I lock a part of a file with fcntl
how do I flush a file to disk with fsync
how can I truncate a file to a given length
how do I rename a file without replacing an existing one
how do I initialise a mutex that is shared between processes
which functions are async-signal-safe
how do I cancel a thread
what does futex wait do
how do I get random bytes from the kernel
how do I put a terminal into raw mode
how do I trace the system calls of another process with ptrace
what is the directory /usr/share meant for
""".strip().splitlines()
)

SMALL_TALK: Final = tuple(
    """
good morning, did you sleep well
what is your favourite colour
can you sing me a song
I am so tired after work today
do you have any brothers or sisters
what should I wear to a wedding in October
how do I get rid of a cold
my neighbour's dog barks all night
which wine goes with grilled fish
how long do I have to boil an egg
give me a recipe for pancakes
is it going to snow this weekend
where can I see the northern lights
plan a trip to Lisbon for three days
how much does a train ticket to Paris cost
who painted the Mona Lisa
when did the Roman Empire fall
how tall is Mount Everest
how far away is the moon
why is the sky blue
what do pandas eat
how do I teach my dog to sit
my cat does not want to eat any more
how often should I water a cactus
which flowers bloom in winter
who wrote Pride and Prejudice
recommend me a science fiction film
what is the best album of the Beatles
who won the last football world cup
how do I learn to play the guitar
how many players are there in a volleyball team
what are good exercises for the back
how many calories does an apple have
I would like to lose some weight
should I invest in shares or in gold
how do I ask my boss for more money
write a birthday card for my grandmother
I have had a fight with my best friend
how do I know that somebody likes me
tell me something interesting about octopuses
make up a riddle for children
what does my star sign say about me
translate good night into Spanish
how do you say thank you in Japanese
write a short poem about autumn
what is the meaning of life
are you a human being
do you ever get bored
that was not very helpful
thank you, that is all for now
let us talk about something else
what time do shops close on Sunday
how do I remove red wine from a carpet
which sofa fits into a small living room
is it safe to drink water from the tap in Mexico
what do I need for a picnic
how do I bake bread without yeast
my car makes a strange noise when I brake
who is the president of France
how old was Mozart when he died
""".strip().splitlines()
)
