package sshd

import "time"

// keepAlive ends a connection whose client has gone without a word
// (sshd_config(5), ClientAliveInterval). After each interval in which nothing
// came it asks; after countMax questions without any sign of life it closes the
// connection, unless countMax is 0. It ends with the connection.
//
// The question has a goroutine of its own, for on a dead connection it never
// returns; and it is asked again only after it was answered, so that there is
// one such goroutine at most.
func (c *connection) keepAlive(interval time.Duration, countMax int) {
	defer c.contain()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	asking := make(chan struct{}, 1)
	unanswered, heard := 0, c.received.Load()
	for {
		select {
		case <-c.library.Done():
			return
		case <-tick.C:
		}
		if received := c.received.Load(); received != heard {
			unanswered, heard = 0, received
			continue
		}
		if countMax > 0 && unanswered >= countMax {
			c.server.log.Info("Timeout, client not responding from " + c.who())
			c.end(endedBySilence)
			return
		}
		unanswered++
		select {
		case asking <- struct{}{}:
			go func() {
				defer c.contain()
				c.ask()
				<-asking
			}()
		default:
		}
	}
}

func (c *connection) ask() {
	if conn, ok := c.established(); ok {
		conn.SendRequest("keepalive@openssh.com", true, nil)
	}
}
